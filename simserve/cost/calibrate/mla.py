"""Multi-head latent attention: `mla.parquet` (phase, batch, q_len, kv_prefix, heads, kv_dtype, kernel)."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from simserve.cost.calibrate.attention import kv_element_widths, map_rows
from simserve.cost.calibrate.family import Family, family_rows
from simserve.cost.calibrate.tables import dtype_column, name_shapes, number_column, text_column
from simserve.cost.kernels.attention import generation_of, other_variants
from simserve.cost.kernels.flash_tile import DEFAULT_TILE, TILES, Tile
from simserve.cost.kernels.form import Constants, KernelForm
from simserve.cost.kernels.mla import (
    ABSORBED_PREFILL,
    DECODE,
    KV_LORA_RANK,
    NOPE_DIM,
    PREFILL,
    ROPE_DIM,
    VALUE_DIM,
    MlaDecodeForm,
    MlaPrefillForm,
    mla_variant,
)

if TYPE_CHECKING:
    import pandas as pd

# Kernels whose prefill works on the latent cache: their measured times are beyond the peak otherwise by half
# as much again as those of all others, and match twice 1088 operations for a head, a row and a key.
_ABSORBED = (("sglang", "flash_attention"), ("sglang", "triton"))
# vLLM's backends take queries up to so many tokens as decodes (reorder_batch_threshold of the backend).
_AS_DECODES = {"vllm_flash_attn_mla": 512.0, "vllm_flashmla": 128.0}
_WIDTHS = {
    "kv_lora_rank": KV_LORA_RANK, "rope_dim": ROPE_DIM, "nope_dim": NOPE_DIM, "value_dim": VALUE_DIM,
}  # fmt: skip
# Triton's decode kernel groups 16 heads.
_TRITON_HEADS = 16
_DECODE, _TRITON_DECODE = MlaDecodeForm(), MlaDecodeForm(_TRITON_HEADS)


class MlaFamily(Family):
    """MLA; the shape is the phase and the heads, over which batch and tokens are swept."""

    name = "mla"
    stems = ("mla",)

    def rows(self, stem: str, table: pd.DataFrame) -> pd.DataFrame:
        """Rows with the columns of `mla_shapes`; see `Family.rows`."""
        import pandas as pd

        heads, tp = number_column(table, "heads", minimum=1), number_column(table, "tp", minimum=1)
        kernel = text_column(table, "kernel", default="default")
        kv_dtype = dtype_column(table, "kv_dtype")
        tokens = number_column(table, "q_len", minimum=1)
        limits = np.array([_AS_DECODES.get(str(name), 0.0) for name in kernel.cat.categories])
        short = tokens <= limits[kernel.cat.codes.to_numpy()]
        phase, framework = text_column(table, "phase"), text_column(table, "framework")
        keys = pd.DataFrame(
            {"framework": framework, "kernel": kernel, "phase": phase, "short": short}, index=table.index
        )
        columns = {
            "batch": number_column(table, "batch", minimum=1),
            "q_len": tokens,
            "kv_prefix": number_column(table, "kv_prefix"),
            "heads": heads,
            "kv_bytes": kv_element_widths(kv_dtype),
            **{name: np.full(len(table), float(width)) for name, width in _WIDTHS.items()},
        }
        variant = map_rows(keys, ["framework", "kernel", "phase", "short"], _variant)
        shape = name_shapes({"heads": heads, "whole": heads * tp}, "{heads}of{whole}")
        rows = family_rows(stem, table, columns, op=kernel, variant=variant, shape=shape)
        rows["kv_dtype"] = kv_dtype
        return rows

    def form(self, variant: str) -> KernelForm:
        """The form of the variant's phase."""
        generation, _, phase = variant.rpartition("/")
        if phase == DECODE:
            return _TRITON_DECODE if generation == "triton" else _DECODE
        absorbed = phase == ABSORBED_PREFILL
        return MlaPrefillForm(_tile(generation, absorbed), absorbed=absorbed)

    def compute_dtype(self, dtype: str, kv_dtype: str) -> str:
        """Keys and values are widened to the queries' dtype, but for fp8 caches."""
        return "fp8" if kv_dtype == "fp8" else "bfloat16"

    def generic(self, variant: str) -> Constants:
        """Medians of the fits of all GPUs."""
        return {parameter.name: parameter.start for parameter in self.form(variant).parameters}

    def residual_axes(self, variant: str) -> tuple[tuple[str, float], ...]:
        """Residuals are smooth over the logarithms of batch, tokens and heads."""
        sizes = "kv_prefix" if variant.endswith(DECODE) else "q_len"
        return (("batch", 1.0), (sizes, 1.0), ("heads", 1.0))

    def alternatives(self, variant: str, fitted: Collection[str]) -> list[str]:
        """Which fitted variants may stand for one that was not."""
        return other_variants(variant, fitted)


def _tile(generation: str, absorbed: bool) -> Tile:
    tile = TILES["fa3"] if generation in ("fa3", "mla", "flash") else DEFAULT_TILE
    return tile if absorbed else Tile(tile.query_rows, tile.key_rows, packs=False)


def _variant(framework: str, kernel: str, phase: str, short: bool) -> str:
    if phase == PREFILL and (short or (framework, kernel) in _ABSORBED):
        phase = ABSORBED_PREFILL
    generation = (
        "mla" if "flashmla" in kernel or kernel.endswith("attn_mla") else generation_of(kernel, framework, "")
    )
    return mla_variant(generation, phase)


FAMILIES = (MlaFamily(),)
