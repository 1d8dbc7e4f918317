"""Mixed batches: `attn_mixed.parquet` (prefill_chunk, kv_prefill, n_decode, kv_decode), `attn_skew.parquet`.

The latter's decodes have contexts of two lengths; they are priced by the sum (kernel study, finding 4).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from simserve.cost.calibrate.attention import attention_rows, head_columns
from simserve.cost.calibrate.family import Family
from simserve.cost.calibrate.tables import number_column
from simserve.cost.kernels.attention import other_variants
from simserve.cost.kernels.fa2_decode import Fa2DecodeForm
from simserve.cost.kernels.form import Constants, KernelForm
from simserve.cost.kernels.mixed_attention import MixedAttentionForm, RepeatedForm

if TYPE_CHECKING:
    import pandas as pd

SKEW = "attn_skew"
# Launches with a prefill chunk, and those of decodes alone.
MIXED, DECODES = "fa2", "fa2/decodes"
_MIXED, _DECODES = MixedAttentionForm(), Fa2DecodeForm()
# The skewed table's times are of several launches, about three: at equal contexts they are 2.7 to 3.2 times
# those of the mixed table, for the same GPU, model and vLLM. It is fitted apart.
_SKEWED = "/skewed"
_SKEWED_FORMS = {MIXED: RepeatedForm(_MIXED), DECODES: RepeatedForm(_DECODES)}
# Columns of the tables for chunk, its history, decodes and their mean context.
_COLUMNS = {
    "attn_mixed": ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode"),
    SKEW: ("pc", "kp", "n", "kv_mean"),
}


class MixedAttentionFamily(Family):
    """Mixed batches on FlashAttention-2; the shape is the heads, over which all sizes are swept."""

    name = "mixed_attention"
    stems = ("attn_mixed", SKEW)

    def rows(self, stem: str, table: pd.DataFrame) -> pd.DataFrame:
        """Rows with the columns of `mixed_shapes` and of `decode_shapes`; see `Family.rows`."""
        rows = attention_rows(table, stem, head_columns(table))
        names = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode")
        for name, column in zip(names, _COLUMNS[stem], strict=True):
            rows[name] = number_column(table, column)
        rows["batch"] = np.maximum(rows["n_decode"], 1.0)
        rows["kv_len"] = np.maximum(rows["kv_decode"], 1.0)
        suffix = _SKEWED if stem == SKEW else ""
        rows["variant"] = np.where(rows["prefill_chunk"] > 0, MIXED + suffix, DECODES + suffix)
        return rows

    def form(self, variant: str) -> KernelForm:
        """The form of mixed launches, or that of decodes alone."""
        if variant.endswith(_SKEWED):
            return _SKEWED_FORMS[variant.removesuffix(_SKEWED)]
        return _DECODES if variant == DECODES else _MIXED

    def compute_dtype(self, dtype: str, kv_dtype: str) -> str:
        """Keys and values are widened to the queries' dtype."""
        return "bfloat16"

    def generic(self, variant: str) -> Constants:
        """Medians of the fits of all GPUs."""
        return {parameter.name: parameter.start for parameter in self.form(variant).parameters}

    def residual_axes(self, variant: str) -> tuple[tuple[str, float], ...]:
        """None: the form holds over heads, a grid of a few heads would not."""
        return ()

    def tells_of_others(self, variant: str) -> bool:
        """Single launches: nothing but its own table is priced as several."""
        return not variant.endswith(_SKEWED)

    def alternatives(self, variant: str, fitted: Collection[str]) -> list[str]:
        """Which fitted variants may stand for one that was not."""
        return other_variants(variant, fitted)


FAMILIES = (MixedAttentionFamily(),)
