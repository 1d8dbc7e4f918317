"""Columns that all tables of attention share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from simserve.cost.calibrate.family import family_rows
from simserve.cost.calibrate.tables import dtype_column, name_shapes, number_column, text_column
from simserve.cost.kernels.attention import KV_ELEMENT_BYTES, QUERY_BYTES, generation_of, group_of

if TYPE_CHECKING:
    import pandas as pd

    from simserve.cost.kernels.form import Array

# What a table without the column `kernel` was measured with.
_DEFAULT_KERNEL = "flash_attn_fa2"


def head_columns(table: pd.DataFrame) -> dict[str, Array]:
    """Return heads, kv_heads, head_dim and window (0 where the table has none)."""
    columns = {name: number_column(table, name, minimum=1) for name in ("heads", "kv_heads", "head_dim")}
    if "window" in table.columns:
        window = number_column(table, "window", minimum=-1, missing=0)
    else:
        window = np.zeros(len(table))
    return {**columns, "window": np.maximum(window, 0.0)}


def attention_rows(table: pd.DataFrame, stem: str, heads: dict[str, Array]) -> pd.DataFrame:
    """Return the rows of a table but for their variant and the columns of their sizes.

    Args:
        table: As read.
        stem: Of the table.
        heads: As of `head_columns`; become columns too.
    """
    kernel = text_column(table, "kernel", default="attention")
    kv_dtype = dtype_column(table, "kv_dtype" if "kv_dtype" in table.columns else "dtype", "bfloat16")
    rows = family_rows(
        stem,
        table,
        {"kv_bytes": kv_element_widths(kv_dtype), **heads},
        op=kernel,
        variant="",
        shape=name_shapes(heads, "{heads}/{kv_heads}x{head_dim}w{window}"),
        framework="vidur",
        dtype="bfloat16",
    )
    rows["kv_dtype"] = kv_dtype
    rows["group"] = map_rows(rows, ["heads", "kv_heads"], group_of)
    return rows


def kv_element_widths(kv_dtype: pd.Series[str]) -> Array:
    """Return bytes of an element of the KV cache, a row."""
    widths = [KV_ELEMENT_BYTES.get(str(name), QUERY_BYTES) for name in kv_dtype.cat.categories]
    return np.array(widths)[kv_dtype.cat.codes.to_numpy()]


def name_variants(
    table: pd.DataFrame, rows: pd.DataFrame, path: Callable[[str, float, float, float, float], str]
) -> pd.Series[str]:
    """Return the variant of each row.

    Args:
        table: With the column kernel, or without.
        rows: As of `attention_rows`.
        path: Of generation, heads, kv_heads, window and query tokens, the variant.
    """
    keys = rows[["hardware", "framework", "heads", "kv_heads", "window"]].copy()
    keys["kernel"] = text_column(table, "kernel", default=_DEFAULT_KERNEL)
    keys["tokens"] = rows["q_len"] if "q_len" in rows.columns else 1.0

    def variant(
        kernel: str,
        framework: str,
        hardware: str,
        heads: float,
        kv_heads: float,
        window: float,
        tokens: float,
    ) -> str:
        return path(generation_of(kernel, framework, hardware), heads, kv_heads, window, tokens)

    columns = ["kernel", "framework", "hardware", "heads", "kv_heads", "window", "tokens"]
    keys["tokens"] = np.minimum(keys["tokens"], 2.0)
    return map_rows(keys, columns, variant)


def map_rows(frame: pd.DataFrame, columns: list[str], function: Callable[..., str]) -> pd.Series[str]:
    """Return the text that a function gives for the named columns of each row, called once a difference."""
    import pandas as pd

    codes = frame.groupby(columns, sort=False, observed=True).ngroup().to_numpy()
    firsts = frame[columns].drop_duplicates()
    texts = [function(*row) for row in firsts.itertuples(index=False)]
    names = sorted(set(texts))
    place = np.array([names.index(text) for text in texts], dtype=np.int64)
    filled = place[codes] if len(texts) else np.zeros(0, np.int64)
    return pd.Series(pd.Categorical.from_codes(filled, names), frame.index)  # type: ignore[call-overload]
