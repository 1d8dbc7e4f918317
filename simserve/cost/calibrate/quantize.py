"""Quantise kernels: `quantize.parquet` with hardware, framework, dtype, op, tokens, width, time_us."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simserve.cost.calibrate.family import Family, family_rows
from simserve.cost.calibrate.tables import name_shapes, number_column, text_column
from simserve.cost.kernels.form import Constants, KernelForm
from simserve.cost.kernels.quantize import PASS_BYTES, QuantizeForm

if TYPE_CHECKING:
    import pandas as pd


class QuantizeFamily(Family):
    """Passes that find scales or apply them; the shape is the width, over which tokens are swept."""

    name = "quantize"
    stems = ("quantize",)

    def rows(self, stem: str, table: pd.DataFrame) -> pd.DataFrame:
        """Rows with the shape columns tokens, width, element_bytes; see `Family.rows`."""
        tokens, width = (number_column(table, column, minimum=1) for column in ("tokens", "width"))
        columns = {"tokens": tokens, "width": width, "element_bytes": np.full(len(table), PASS_BYTES)}
        op, shape = text_column(table, "op"), name_shapes({"width": width}, "w{width}")
        return family_rows(stem, table, columns, op=op, variant=op, shape=shape)

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
