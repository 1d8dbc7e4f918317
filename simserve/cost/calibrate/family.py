"""The contract between measured tables and kernel models: one `Family` a kind of kernel.

A family reads the documented columns of its tables into rows of one form, says which of them are fitted
together, and which kernel model is fitted. Reading, fitting, cross-validation, checking, residuals and plots
are then the same for all families.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from simserve.cost.kernels.form import Constants, KernelForm

if TYPE_CHECKING:
    import pandas as pd

    from simserve.cost.kernel_calibration import KernelCalibration

# Columns that `Family.rows` always gives; the form's shape columns come on top.
ROW_COLUMNS = (
    "hardware",  # as the table spells it
    "framework",  # as the table spells it
    "dtype",  # as the table spells it, "bf16" as "bfloat16"
    "kv_dtype",  # "" where the table has none
    "op",  # stem/op or stem/kernel
    "group",  # "mha", "gqa", "wide" for attention, else None
    "variant",  # rows of one (hardware, framework, dtype, kv_dtype, variant) are fitted together
    "shape",  # text that names the shape, without what is swept over it (tokens, batch, context)
    "seconds",  # measured
    "excluded",  # why the row is not to be used, "" if it is
)


class Family(Protocol):
    """One kind of kernel: its tables, its rows and its form."""

    @property
    def name(self) -> str:
        """Key of the family in a calibration file: "gemm", "decode_attention", ..."""

    @property
    def stems(self) -> tuple[str, ...]:
        """Stems of the tables that it reads ("gemm" reads gemm.parquet or gemm.csv)."""

    def rows(self, stem: str, table: pd.DataFrame) -> pd.DataFrame:
        """Return one row an input row, with the table's index: `ROW_COLUMNS` and the form's shape columns.

        Raises:
            InputError: If a documented column is missing or holds a wrong value; names the first such row.
        """

    def form(self, variant: str) -> KernelForm:
        """The kernel model of a variant."""

    def compute_dtype(self, dtype: str, kv_dtype: str) -> str:
        """The dtype whose peak rate bounds the kernel's arithmetic (a key of `Accelerator.peak_flops`)."""

    def generic(self, variant: str) -> Constants:
        """Constants of the generic tier, for a GPU or dtype without a fit."""

    def residual_axes(self, variant: str) -> tuple[tuple[str, float], ...]:
        """Shape columns and weights over whose logarithms residuals are interpolated; () for none."""


class StepTable(Protocol):
    """A table of whole steps: checked against the composition of kernels, never fitted."""

    @property
    def stems(self) -> tuple[str, ...]:
        """Stems of the tables that it reads."""

    def rows(
        self, stem: str, table: pd.DataFrame, calibration_of: Callable[[str], KernelCalibration]
    ) -> pd.DataFrame:
        """Return one row an input row, with the table's index.

        The columns are those of `ROW_COLUMNS` (variant and shape may be ""), and `predicted_s` (NaN where the
        row cannot be priced), `split` ("unseen" or "excluded") and `tier`.

        Args:
            stem: Of the table.
            table: As read.
            calibration_of: An accelerator's calibration by the table's spelling, with its peaks.
        """
