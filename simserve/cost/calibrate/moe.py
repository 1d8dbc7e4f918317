"""Fused experts: `moe.parquet` with num_tokens, hidden_size, inter_size, topk, num_experts, moe_tp_size."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from simserve.cost.calibrate.family import Family, family_rows
from simserve.cost.calibrate.tables import (
    bad_row,
    dtype_column,
    map_texts,
    name_shapes,
    number_column,
    text_column,
)
from simserve.cost.kernels.expert_load import BALANCED, RANDOM
from simserve.cost.kernels.form import Array, Constants, KernelForm
from simserve.cost.kernels.moe import OTHER, SERVING_VARIANTS, moe_form, moe_loads

if TYPE_CHECKING:
    import pandas as pd

# Bytes of a weight and of an activation, scales included: fp8_block one float32 for 128 x 128 weights and
# for 128 activations, nvfp4 one byte for 16, mxfp4 one byte for 32, int4_wo a 16-bit scale for 128.
ELEMENT_BYTES = {
    "bfloat16": (2.0, 2.0), "float16": (2.0, 2.0), "fp8": (1.0, 1.0), "fp8_block": (1.000244, 1.03125),
    "nvfp4": (0.5625, 0.5625), "int4_wo": (0.515625, 2.0), "w4a16_mxfp4": (0.53125, 2.0),
    "w4a8_mxfp4_mxfp8": (0.53125, 1.03125), "mxfp4": (0.53125, 0.53125),
}  # fmt: skip
# The dtype whose peak bounds the arithmetic; mixed formats run at the wider operand's rate.
COMPUTE_DTYPES = {
    "fp8_block": "fp8", "nvfp4": "fp4", "mxfp4": "fp4", "int4_wo": "bfloat16", "w4a16_mxfp4": "bfloat16",
    "w4a8_mxfp4_mxfp8": "fp8",
}  # fmt: skip
# Kinds of kernels, by what their names contain; the first that matches.
_KINDS = (
    ("nongated", "cutlass_nongated"), ("expertsmodular", "trtllm_modular"), ("flashinfer_trtllm", "trtllm"),
    ("cutlass", "cutlass"), ("marlin", "marlin"), ("triton", "triton"), ("vllm_fused_moe", "triton"),
    ("xpu", "xpu"), ("moe_torch_flow", "torch_flow"),
)  # fmt: skip
# Models whose experts have one up projection (squared ReLU): Nemotron-H, told by what a token picks (22 of
# 512) and by the widths of its small sibling (128 experts of 1856).
_UNGATED_PICKS = 22
_UNGATED_INNER = 1856
_MODEL = {"hidden": "hidden_size", "inter": "inter_size", "topk": "topk", "experts": "num_experts"}
_ALWAYS_GATED = ("vllm_fused_moe", "moe_torch_flow")


class MoeFamily(Family):
    """Routed experts; the shape is a model's, over which tokens, parallelism and routing are swept."""

    name = "moe"
    stems = ("moe",)
    # More rows a fit change no figure.
    max_rows = 1500

    def rows(self, stem: str, table: pd.DataFrame) -> pd.DataFrame:
        """Rows with the shape columns of `MoeForm` and those of `moe_loads`; see `Family.rows`."""
        kernel, dtype = text_column(table, "kernel_source", default="moe"), dtype_column(table)
        model = {name: number_column(table, column, minimum=1) for name, column in _MODEL.items()}
        shapes = {
            "tokens": number_column(table, "num_tokens", minimum=1),
            **model,
            "moe_tp": number_column(table, "moe_tp_size", minimum=1),
            "moe_ep": number_column(table, "moe_ep_size", minimum=1),
            "skew": _skews(table),
            "activated": number_column(table, "activated_experts", missing=-1.0, minimum=-1.0)
            if "activated_experts" in table
            else np.full(len(table), -1.0),
        }
        _check_ranks(table, shapes)
        names = [str(name) for name in kernel.cat.categories]
        told = np.array(["nongated" in name for name in names], bool)[kernel.cat.codes.to_numpy()]
        # The oldest tables measured every model with both up projections.
        judged = np.array([name not in _ALWAYS_GATED for name in names], bool)[kernel.cat.codes.to_numpy()]
        ungated = told | judged & ((model["topk"] == _UNGATED_PICKS) | (model["inter"] == _UNGATED_INNER))
        shapes["gated"] = np.where(ungated, 0.0, 1.0)
        shapes["weight_bytes"], shapes["activation_bytes"] = (
            _element_bytes(dtype, 0),
            _element_bytes(dtype, 1),
        )
        shapes.update(moe_loads(shapes))
        variant = map_texts(kernel, {name: kernel_kind(name) for name in names})
        shape = name_shapes(model, "{hidden}x{inter}k{topk}e{experts}")
        return family_rows(stem, table, shapes, op=kernel, variant=variant, shape=shape)

    def form(self, variant: str) -> KernelForm:
        """One form for all kinds of kernels."""
        return moe_form()

    def compute_dtype(self, dtype: str, kv_dtype: str) -> str:
        """See `COMPUTE_DTYPES`."""
        return COMPUTE_DTYPES.get(dtype, dtype)

    def generic(self, variant: str) -> Constants:
        """About the medians of the fits of all GPUs."""
        return {parameter.name: parameter.start for parameter in moe_form().parameters}

    def residual_axes(self, variant: str) -> tuple[tuple[str, float], ...]:
        """None: with five to nine models a fit, what the form misses of one says little of another."""
        return ()

    def alternatives(self, variant: str, fitted: Collection[str]) -> list[str]:
        """Kinds whose fits may stand in for that of a kind nobody has measured there, nearest first."""
        return [kind for kind in SERVING_VARIANTS if kind in fitted]


def kernel_kind(kernel_source: str) -> str:
    """Return the variant of a kernel by its name in tables."""
    return next((kind for part, kind in _KINDS if part in kernel_source.replace(" ", "_")), OTHER)


def _skews(table: pd.DataFrame) -> Array:
    """Exponents of the power laws in the column `distribution`, "balanced" without one."""
    routing = text_column(table, "distribution", default="balanced")
    known = {
        "balanced": BALANCED,
        "": BALANCED,
        "controlled_activated": BALANCED,
        "random": RANDOM,
        "uniform": RANDOM,
    }
    values = []
    for name in routing.cat.categories:
        _, _, exponent = str(name).partition("power_law_")
        try:
            values.append(known[str(name)] if str(name) in known else float(exponent))
        except ValueError:
            row = int(np.flatnonzero((routing == name).to_numpy())[0])
            message = f"distribution: expected balanced, random or power_law_EXPONENT, got {str(name)!r}"
            raise bad_row(table, row, message) from None
    return np.array(values)[routing.cat.codes.to_numpy()] if values else np.zeros(len(table))


def _check_ranks(table: pd.DataFrame, shapes: dict[str, Array]) -> None:
    wrong = (shapes["experts"] % shapes["moe_ep"] != 0) | (shapes["topk"] > shapes["experts"])
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        message = (
            "expected num_experts to be a multiple of moe_ep_size and topk to be no more than num_experts"
        )
        raise bad_row(table, row, message)


def _element_bytes(dtype: pd.Series[str], which: int) -> Array:
    widths = [ELEMENT_BYTES.get(str(name), (2.0, 2.0))[which] for name in dtype.cat.categories]
    return np.array(widths)[dtype.cat.codes.to_numpy()] if len(dtype) else np.empty(0)


FAMILIES = (MoeFamily(),)
