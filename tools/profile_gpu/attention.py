"""Attention launches: PyTorch's scaled-dot-product attention, FlashAttention and FlashInfer if importable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from typing import Any

from .clock import Launch

Row = Mapping[str, Any]
Found = tuple[str, str, Callable[[], Launch]]
_WORKSPACE_BYTES = 128 * 2**20


def attention_launches(torch: Any, table: str, row: Row, device: str = "cuda") -> Iterator[Found]:
    """Yield (framework, kernel, what prepares a launch) of each library for a row of an attention table."""
    shapes = {"attn_decode": _decode_lengths, "attn_prefill": _prefill_lengths, "attn_mixed": _mixed_lengths}
    queries, keys = shapes[table](row)
    heads = int(row["heads"]), int(row["kv_heads"]), int(row["head_dim"])
    dtype = getattr(torch, row["dtype"])
    if len(set(queries)) == len(set(keys)) == 1:
        prepare = partial(_sdpa, torch, device, dtype, heads, len(queries), queries[0], keys[0])
        yield "torch", "scaled_dot_product_attention", prepare
    flash = _import("flash_attn")
    if flash is not None:
        yield "flash-attn", "flash_attn", partial(_flash, torch, flash, dtype, heads, queries, keys)
    flashinfer = _import("flashinfer")
    if flashinfer is not None and table != "attn_mixed":
        prepare_pages = partial(_flashinfer, torch, flashinfer, dtype, heads, queries, keys)
        yield "flashinfer", "flashinfer", prepare_pages


def _decode_lengths(row: Row) -> tuple[list[int], list[int]]:
    return [1] * row["batch"], [row["kv_len"]] * row["batch"]


def _prefill_lengths(row: Row) -> tuple[list[int], list[int]]:
    return [row["q_len"]] * row["batch"], [row["kv_prefix"] + row["q_len"]] * row["batch"]


def _mixed_lengths(row: Row) -> tuple[list[int], list[int]]:
    """One prefill chunk and decodes beside it, in one call."""
    chunk, decodes = row["prefill_chunk"], row["n_decode"]
    return [chunk] + [1] * decodes, [row["kv_prefill"] + chunk] + [row["kv_decode"]] * decodes


def _import(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return None


def _sdpa(
    torch: Any, device: str, dtype: Any, heads: tuple[int, int, int], batch: int, q_len: int, kv_len: int
) -> Launch:
    from torch.nn.attention.bias import causal_lower_right

    query = torch.randn(batch, heads[0], q_len, heads[2], device=device, dtype=dtype)
    key, value = (
        torch.randn(batch, heads[1], kv_len, heads[2], device=device, dtype=dtype) for _ in range(2)
    )
    # One query sees every key; more are causal, aligned to the end of the keys.
    mask = causal_lower_right(q_len, kv_len) if q_len > 1 else None
    attend = torch.nn.functional.scaled_dot_product_attention
    grouped = heads[0] != heads[1]
    return lambda: attend(query, key, value, attn_mask=mask, enable_gqa=grouped)


def _flash(
    torch: Any, flash: Any, dtype: Any, heads: tuple[int, int, int], queries: list[int], keys: list[int]
) -> Launch:
    query = torch.randn(sum(queries), heads[0], heads[2], device="cuda", dtype=dtype)
    key, value = (torch.randn(sum(keys), heads[1], heads[2], device="cuda", dtype=dtype) for _ in range(2))
    starts_q, starts_k = _starts(torch, queries), _starts(torch, keys)
    longest = max(queries), max(keys)
    if set(queries) == {1} and len(set(keys)) == 1:
        # The decode kernel splits the KV cache over the SMs, which the varlen one does not.
        batch, length = len(queries), keys[0]
        one = query.view(batch, 1, heads[0], heads[2])
        cache = [entry.view(batch, length, heads[1], heads[2]) for entry in (key, value)]
        return lambda: flash.flash_attn_with_kvcache(one, *cache, causal=True)
    return lambda: flash.flash_attn_varlen_func(query, key, value, starts_q, starts_k, *longest, causal=True)


def _flashinfer(
    torch: Any, flashinfer: Any, dtype: Any, heads: tuple[int, int, int], queries: list[int], keys: list[int]
) -> Launch:
    """A paged KV cache with one page a request: the plan is made once, as an engine makes it once a step."""
    workspace = torch.empty(_WORKSPACE_BYTES, dtype=torch.uint8, device="cuda")
    page, batch = max(keys), len(keys)
    cache = torch.randn(batch, 2, page, heads[1], heads[2], device="cuda", dtype=dtype)
    query = torch.randn(sum(queries), heads[0], heads[2], device="cuda", dtype=dtype)
    pages = torch.arange(batch, device="cuda", dtype=torch.int32)
    last = torch.tensor(keys, device="cuda", dtype=torch.int32)
    page_starts = _starts(torch, [1] * batch)
    if set(queries) == {1}:
        wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(workspace, "NHD")
        wrapper.plan(page_starts, pages, last, *heads, page, q_data_type=dtype, kv_data_type=dtype)
    else:
        wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace, "NHD")
        starts = _starts(torch, queries)
        wrapper.plan(starts, page_starts, pages, last, *heads, page, causal=True, q_data_type=dtype)
    return lambda: wrapper.run(query, cache)


def _starts(torch: Any, lengths: list[int]) -> Any:
    total = torch.tensor([0, *lengths], device="cuda").cumsum(0)
    return total.to(torch.int32)
