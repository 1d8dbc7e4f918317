"""Prefill attention: `attn_prefill.parquet` (batch, q_len, kv_prefix, heads, kv_heads, head_dim, window).

The prefill rows of `attn_vidur_a100.parquet` (prefill_chunk, kv_len) belong here too.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from simserve.cost.calibrate.attention import attention_rows, head_columns, name_variants
from simserve.cost.calibrate.decode_attention import VIDUR
from simserve.cost.calibrate.family import Family
from simserve.cost.calibrate.tables import number_column, require_columns
from simserve.cost.kernels.attention import XPU_OVERHEAD_S, other_variants
from simserve.cost.kernels.flash_tile import DEFAULT_TILE, TILES
from simserve.cost.kernels.form import Constants, KernelForm
from simserve.cost.kernels.prefill_attention import PrefillAttentionForm, prefill_variant

if TYPE_CHECKING:
    import pandas as pd

_FORMS = {generation: PrefillAttentionForm(tile) for generation, tile in TILES.items()} | {
    "xpu": PrefillAttentionForm(largest_overhead_s=XPU_OVERHEAD_S)
}
_DEFAULT_FORM = PrefillAttentionForm(DEFAULT_TILE)


class PrefillAttentionFamily(Family):
    """Prefill attention; the shape is the heads and the window, over which batch and tokens are swept."""

    name = "prefill_attention"
    stems = ("attn_prefill", VIDUR)
    # More rows a fit change no figure; there are hundreds of groups.
    max_rows = 1500

    def rows(self, stem: str, table: pd.DataFrame) -> pd.DataFrame:
        """Rows with the columns of `prefill_shapes`; see `Family.rows`."""
        vidur = stem == VIDUR
        if vidur:
            require_columns(table, ("is_prefill",))
            attrs = table.attrs
            table = table[table["is_prefill"].astype(bool)]
            table.attrs.update(attrs)
        rows = attention_rows(table, stem, head_columns(table))
        rows["batch"] = number_column(table, "batch", minimum=1)
        rows["q_len"] = number_column(table, "prefill_chunk" if vidur else "q_len", minimum=1)
        rows["kv_prefix"] = number_column(table, "kv_len" if vidur else "kv_prefix")
        rows["variant"] = name_variants(table, rows, _path)
        if vidur:
            # Another lab's kernels: fits of their own.
            rows["variant"] = "vidur"
        return rows

    def form(self, variant: str) -> KernelForm:
        """The form with the tile of the variant's generation."""
        return _FORMS.get(variant.split("/")[0], _DEFAULT_FORM)

    def compute_dtype(self, dtype: str, kv_dtype: str) -> str:
        """Keys and values are widened to the queries' dtype."""
        return "fp8" if dtype == "fp8" else "bfloat16"

    def generic(self, variant: str) -> Constants:
        """Medians of the fits of all GPUs."""
        return {parameter.name: parameter.start for parameter in PrefillAttentionForm.parameters}

    def residual_axes(self, variant: str) -> tuple[tuple[str, float], ...]:
        """None: the form holds over heads, a grid of a few heads would not."""
        return ()

    def alternatives(self, variant: str, fitted: Collection[str]) -> list[str]:
        """Which fitted variants may stand for one that was not."""
        return other_variants(variant, fitted)


def _path(generation: str, heads: float, kv_heads: float, window: float, tokens: float) -> str:
    variant = prefill_variant(generation, window, tokens)
    # One token a sequence is a decode, which FlashAttention-2 packs or not.
    unpacked = tokens <= 1 and generation == "fa2" and (heads == kv_heads or window > 0)
    return f"{variant}/unpacked" if unpacked else variant


FAMILIES = (PrefillAttentionFamily(),)
