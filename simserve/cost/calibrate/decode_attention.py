"""Decode attention: `attn_decode.parquet` (batch, kv_len, heads, kv_heads, head_dim, window, kv_dtype).

The decode rows of `attn_vidur_a100.parquet` belong here too.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from simserve.cost.calibrate.attention import attention_rows, head_columns, name_variants
from simserve.cost.calibrate.family import Family
from simserve.cost.calibrate.tables import number_column, require_columns
from simserve.cost.kernels.attention import XPU_OVERHEAD_S, other_variants
from simserve.cost.kernels.decode_attention import SplitDecodeForm, decode_variant
from simserve.cost.kernels.fa2_decode import Fa2DecodeForm
from simserve.cost.kernels.form import Constants, KernelForm

if TYPE_CHECKING:
    import pandas as pd

VIDUR = "attn_vidur_a100"
_SPLIT, _XPU, _FA2 = SplitDecodeForm(), SplitDecodeForm(XPU_OVERHEAD_S), Fa2DecodeForm()


class DecodeAttentionFamily(Family):
    """Decode attention; the shape is the heads and the window, over which batch and context are swept."""

    name = "decode_attention"
    stems = ("attn_decode", VIDUR)
    # More rows a fit change no figure; there are hundreds of groups.
    max_rows = 1500

    def rows(self, stem: str, table: pd.DataFrame) -> pd.DataFrame:
        """Rows with the columns of `decode_shapes`; see `Family.rows`."""
        if stem == VIDUR:
            require_columns(table, ("is_prefill",))
            attrs = table.attrs
            table = table[~table["is_prefill"].astype(bool)]
            table.attrs.update(attrs)
        rows = attention_rows(table, stem, head_columns(table))
        rows["batch"] = number_column(table, "batch", minimum=1)
        rows["kv_len"] = np.maximum(number_column(table, "kv_len"), 1.0)
        rows["variant"] = name_variants(table, rows, _path)
        if stem == VIDUR:
            # Another lab's kernels, measured with another batching: fits of their own.
            rows["variant"] = "vidur"
        return rows

    def form(self, variant: str) -> KernelForm:
        """FlashAttention-2's own form, or the one of all others."""
        if variant.startswith("xpu"):
            return _XPU
        return _FA2 if variant.startswith("fa2") else _SPLIT

    def compute_dtype(self, dtype: str, kv_dtype: str) -> str:
        """Keys and values are widened to the queries' dtype, or fp8 where both are."""
        return "fp8" if dtype == "fp8" else "bfloat16"

    def generic(self, variant: str) -> Constants:
        """Medians of the fits of all GPUs."""
        return {parameter.name: parameter.start for parameter in self.form(variant).parameters}

    def residual_axes(self, variant: str) -> tuple[tuple[str, float], ...]:
        """None: the forms hold over heads, a grid of a few heads would not."""
        return ()

    def alternatives(self, variant: str, fitted: Collection[str]) -> list[str]:
        """Which fitted variants may stand for one that was not."""
        return other_variants(variant, fitted)


def _path(generation: str, heads: float, kv_heads: float, window: float, tokens: float) -> str:
    return decode_variant(generation, heads, kv_heads, window)


FAMILIES = (DecodeAttentionFamily(),)
