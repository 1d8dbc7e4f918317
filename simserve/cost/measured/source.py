"""The contract between a source of measured times and the kernels that it prices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from simserve.cost.kernels.form import Array, Shapes


class MeasuredSource(Protocol):
    """Measured times of one accelerator's kernels."""

    @property
    def name(self) -> str:
        """Where the times are from, for reports."""

    def seconds(
        self, family: str, dtype: str, kv_dtype: str, variants: Sequence[str], shapes: Shapes
    ) -> Array:
        """Return the seconds of one launch a row; NaN where the source has no data.

        Args:
            family: Kernel family, as in a calibration file.
            dtype, kv_dtype: As tables spell them.
            variants: Of the family, the wanted one first.
            shapes: The shape columns of the family's form.
        """
