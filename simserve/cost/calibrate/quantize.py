"""Quantise kernels: `quantize.parquet` with hardware, framework, dtype, op, tokens, width, time_us."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simserve.cost.calibrate.tables import (
    dtype_column,
    map_texts,
    measured_seconds,
    name_shapes,
    number_column,
    text_column,
)
from simserve.cost.kernels.form import Constants, KernelForm
from simserve.cost.kernels.quantize import PASS_BYTES, QuantizeForm

if TYPE_CHECKING:
    import pandas as pd


class QuantizeFamily:
    """Passes that find scales or apply them; the shape is the width, over which tokens are swept."""

    name = "quantize"
    stems = ("quantize",)

    def rows(self, stem: str, table: pd.DataFrame) -> pd.DataFrame:
        """Rows with the shape columns tokens, width, element_bytes; see `Family.rows`."""
        import pandas as pd

        tokens, width = (number_column(table, column, minimum=1) for column in ("tokens", "width"))
        op = text_column(table, "op")
        return pd.DataFrame(
            {
                "hardware": text_column(table, "hardware"),
                "framework": text_column(table, "framework"),
                "dtype": dtype_column(table),
                "kv_dtype": "",
                "op": map_texts(op, {str(name): f"{stem}/{name}" for name in op.cat.categories}),
                "group": None,
                "variant": op,
                "shape": name_shapes({"width": width}, "w{width}"),
                "seconds": measured_seconds(table),
                "excluded": "",
                "tokens": tokens,
                "width": width,
                "element_bytes": np.full(len(table), PASS_BYTES),
            },
            index=table.index,
        )

    def form(self, variant: str) -> KernelForm:
        """One form for both passes."""
        return QuantizeForm()

    def compute_dtype(self, dtype: str, kv_dtype: str) -> str:
        """The arithmetic is in 16 bits, and never counts."""
        return "bfloat16"

    def generic(self, variant: str) -> Constants:
        """The form's own starting values."""
        return {parameter.name: parameter.start for parameter in QuantizeForm.parameters}

    def residual_axes(self, variant: str) -> tuple[tuple[str, float], ...]:
        """Residuals are smooth over the logarithms of both sizes."""
        return (("tokens", 1.0), ("width", 1.0))


FAMILIES = (QuantizeFamily(),)
