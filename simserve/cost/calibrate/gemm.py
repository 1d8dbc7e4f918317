"""Dense GEMMs: `gemm.parquet` with columns source, hardware, framework, dtype, op, M, N, K, time_us."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simserve.cost.calibrate.family import Family, family_rows
from simserve.cost.calibrate.tables import (
    dtype_column,
    map_texts,
    name_shapes,
    number_column,
    text_column,
)
from simserve.cost.kernels.form import Array, Constants, KernelForm
from simserve.cost.kernels.gemm import ELEMENT_BYTES, FILL_CACHE, LAYERS, SIXTEEN_BITS, GemmForm

if TYPE_CHECKING:
    import pandas as pd

# Rows that the data's README calls unusable (problems 3 and 5).
_EAGER_FLOOR = "vLLM fp8_block rows have an eager-launch floor"
_ROTATED_COPIES = 6.0
_EXPERT_TOKENS = "tokens of each expert are unknown"
# The dtype whose peak bounds the arithmetic; weight-only formats are widened to 16 bits first.
COMPUTE_DTYPES = {
    "float16": "float16", "bfloat16": "bfloat16", "fp8": "fp8", "fp8_block": "fp8", "nvfp4": "fp4",
    "sq": "int8", "int8": "int8", "int8_wo": "bfloat16", "int4_wo": "bfloat16",
}  # fmt: skip


class GemmFamily(Family):
    """Dense GEMMs; the shape is N x K, over which M is swept."""

    name = "gemm"
    stems = ("gemm",)

    def rows(self, stem: str, table: pd.DataFrame) -> pd.DataFrame:
        """Rows with the shape columns m, n, k; see `Family.rows`."""
        m, n, k = (number_column(table, column, minimum=1) for column in ("M", "N", "K"))
        source = text_column(table, "source", default="")
        op = text_column(table, "op", default="gemm")
        framework = text_column(table, "framework")
        dtype = dtype_column(table)
        excluded = np.where(
            (framework == "vllm").to_numpy() & (dtype == "fp8_block").to_numpy(), _EAGER_FLOOR, ""
        )
        excluded = np.where(op.astype(str).str.startswith("expert.").to_numpy(), _EXPERT_TOKENS, excluded)
        columns = {
            "m": m,
            "n": n,
            "k": k,
            "input_bytes": _element_bytes(dtype, 0),
            "weight_bytes": _element_bytes(dtype, 1),
            "weight_copies": _weight_copies(source, framework, dtype),
            "quantizes": (_element_bytes(dtype, 0) < SIXTEEN_BITS).astype(np.float64),
        }
        # Layers of a whole model profiled in vLLM differ from a grid of GEMMs, also of vLLM's.
        variant = map_texts(source, {str(name): _variant(str(name)) for name in source.cat.categories})
        shape = name_shapes({"n": n, "k": k}, "{n}x{k}")
        return family_rows(stem, table, columns, op=op, variant=variant, shape=shape, excluded=excluded)

    def form(self, variant: str) -> KernelForm:
        """One form for all GEMMs."""
        return GemmForm()

    def compute_dtype(self, dtype: str, kv_dtype: str) -> str:
        """Tensor cores run weight-only formats at the 16-bit rate."""
        return COMPUTE_DTYPES.get(dtype, dtype)

    def generic(self, variant: str) -> Constants:
        """The form's own starting values."""
        return {parameter.name: parameter.start for parameter in GemmForm.parameters}

    def pins(self, dtype: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The launch of a narrow GEMM costs what it costs with 16 bits: the rest is the quantise pass."""
        narrow = ELEMENT_BYTES.get(dtype, (SIXTEEN_BITS, SIXTEEN_BITS))[0] < SIXTEEN_BITS
        return (("bfloat16", "float16"), ("overhead_s",)) if narrow else ((), ())

    def tells_of_others(self, variant: str) -> bool:
        """Grids of GEMMs: layers of whole models were timed on two accelerators of one kind."""
        return variant != LAYERS

    def residual_axes(self, variant: str) -> tuple[tuple[str, float], ...]:
        """Residuals are smooth over the logarithms of all three sizes."""
        return (("m", 2.0), ("n", 1.0), ("k", 1.0))


def _variant(source: str) -> str:
    return LAYERS if source == "LLMServingSim-v1" else ""


def _weight_copies(source: pd.Series[str], framework: pd.Series[str], dtype: pd.Series[str]) -> Array:
    """Copies of the weights that a benchmark uses in turn.

    aiconfigurator's use six (the data's README, problem 2), of block-scaled fp8 and nvfp4 one;
    TensorRT-LLM's as many as fill the L2 cache: on L40S weights of 24, 32, 48 and 96 MB come out of its
    96 MB, 28, 35 and 56 do not.
    """
    rotates = (source == "aiconfigurator").to_numpy() & ~dtype.isin(["fp8_block", "nvfp4"]).to_numpy()
    copies = np.where((framework == "trtllm").to_numpy(), FILL_CACHE, _ROTATED_COPIES)
    return np.where(rotates, copies, 1.0)


def _element_bytes(dtype: pd.Series[str], which: int) -> Array:
    widths = [ELEMENT_BYTES.get(str(name), (2.0, 2.0))[which] for name in dtype.cat.categories]
    return np.array(widths)[dtype.cat.codes.to_numpy()]


FAMILIES = (GemmFamily(),)
