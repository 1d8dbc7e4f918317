"""Grouped GEMMs: `grouped_gemm.parquet` with op, num_local_experts, hidden_size, intermediate_size, ..."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simserve.cost.calibrate.family import Family, family_rows
from simserve.cost.calibrate.tables import name_shapes, number_column, text_column
from simserve.cost.kernels.form import Constants, KernelForm
from simserve.cost.kernels.moe import grouped_gemm_form, spread_evenly

if TYPE_CHECKING:
    import pandas as pd

# fp8_block: one byte, and a float32 for 128 x 128 weights and for 128 activations.
_WEIGHT_BYTES, _ACTIVATION_BYTES = 1.000244, 1.03125


class GroupedGemmFamily(Family):
    """One grouped GEMM, up (both projections) or down; the shape is an expert's matrix."""

    name = "grouped_gemm"
    stems = ("grouped_gemm",)

    def rows(self, stem: str, table: pd.DataFrame) -> pd.DataFrame:
        """Rows with the shape columns of `GroupedGemmForm`; see `Family.rows`."""
        hidden = number_column(table, "hidden_size", minimum=1)
        inner = number_column(table, "intermediate_size", minimum=1)
        experts = number_column(table, "num_local_experts", minimum=1)
        tokens = number_column(table, "tokens_per_expert", minimum=1)
        op = text_column(table, "op")
        up = (op == "up_proj").to_numpy()
        matrix = {"columns": np.where(up, 2 * inner, hidden), "depth": np.where(up, hidden, inner)}
        columns = {
            **matrix,
            "weight_bytes": np.full(len(table), _WEIGHT_BYTES),
            "activation_bytes": np.full(len(table), _ACTIVATION_BYTES),
            **spread_evenly(experts, experts * tokens),
        }
        # A decode's kernel masks rows of a fixed buffer, a prefill's packs them.
        phase, shape = text_column(table, "phase", default=""), name_shapes(matrix, "{columns}x{depth}")
        return family_rows(stem, table, columns, op=op, variant=phase, shape=shape)

    def form(self, variant: str) -> KernelForm:
        """One form for all."""
        return grouped_gemm_form()

    def compute_dtype(self, dtype: str, kv_dtype: str) -> str:
        """Block-scaled fp8 runs at the rate of fp8."""
        return "fp8" if dtype == "fp8_block" else dtype

    def generic(self, variant: str) -> Constants:
        """About the medians of the fits of all GPUs."""
        return {parameter.name: parameter.start for parameter in grouped_gemm_form().parameters}

    def residual_axes(self, variant: str) -> tuple[tuple[str, float], ...]:
        """Over the picks and the matrix."""
        return (("picks", 1.0), ("activated", 1.0), ("depth", 1.0))


FAMILIES = (GroupedGemmFamily(),)
