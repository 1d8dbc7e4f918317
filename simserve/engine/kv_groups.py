"""KV groups of a model and the bytes of a block, as vLLM forms them.

Layers of one kind (full attention, or a window) share block tables. Models with both kinds are cut into
groups of equally many layers, so that every block, whichever group takes it, has the same size
(`_get_kv_cache_groups_uniform_page_size` in vllm/v1/core/kv_cache_utils.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from simserve.errors import InputError
from simserve.model.shape import ModelShape
from simserve.model.stage import Stage


class LayoutOptions(Protocol):
    """The options that shape the layout, under vLLM's names."""

    @property
    def block_size(self) -> int:
        """Tokens of a block."""

    @property
    def tensor_parallel_size(self) -> int:
        """Ranks of a stage."""

    @property
    def decode_context_parallel_size(self) -> int:
        """Ranks that share each sequence's tokens; 1: every rank holds all tokens of its KV heads."""

    @property
    def disable_hybrid_kv_cache_manager(self) -> bool:
        """Treat window layers as full ones."""


@dataclass(frozen=True, slots=True)
class KVLayout:
    """Groups and block size of one rank.

    Attributes:
        windows: Window of each group in tokens, None for full attention.
        block_size: Tokens of a block, on all ranks that share a sequence together.
        block_bytes: Bytes of a block on one rank: one page for each layer of a group.
    """

    windows: tuple[int | None, ...]
    block_size: int
    block_bytes: int

    def with_draft(self, draft: KVLayout) -> KVLayout:
        """Return the layout with a draft model's layers in every block."""
        return replace(self, block_bytes=self.block_bytes + draft.block_bytes)

    def blocks_needed(self, tokens: int, max_num_batched_tokens: int) -> int:
        """Blocks that one request of `tokens` tokens takes at most, over all groups.

        A window group keeps the window before the oldest token of a step, and one block more where the
        window starts inside a block (`SlidingWindowSpec.max_memory_usage_bytes`).
        """
        total = 0
        for window in self.windows:
            held = tokens if window is None else min(window - 1 + max_num_batched_tokens, tokens)
            total += -(-held // self.block_size) + (window is not None)
        return total

    def longest_request(self, num_blocks: int, max_num_batched_tokens: int) -> int:
        """Return the most tokens of one request that `num_blocks` hold, 2**40 if there is no limit."""
        low, high = 0, 2**40
        if self.blocks_needed(high, max_num_batched_tokens) <= num_blocks:
            return high
        while high - low > 1:
            middle = (low + high) // 2
            if self.blocks_needed(middle, max_num_batched_tokens) <= num_blocks:
                low = middle
            else:
                high = middle
        return low


def kv_layout(shape: ModelShape, stage: Stage, kv_dtype: str, options: LayoutOptions) -> KVLayout:
    """Return the KV groups of a stage's layers.

    Args:
        shape: The model.
        stage: The layers.
        kv_dtype: Dtype of KV entries.
        options: Block size, ranks, and whether window layers are treated apart.

    Raises:
        InputError: If the model's KV cache cannot be sharded along the sequence as asked.
    """
    check_context_parallel(shape, options.tensor_parallel_size, options.decode_context_parallel_size)
    # A block of the table is one page on each rank that shares the sequence (vLLM's KVCacheManager).
    block_size = options.block_size * options.decode_context_parallel_size
    page = options.block_size * shape.kv_bytes_per_token_layer(kv_dtype, options.tensor_parallel_size)
    windows = shape.layer_windows[stage.first_layer : stage.last_layer]
    kinds = {window: windows.count(window) for window in dict.fromkeys(windows)}
    if len(kinds) == 1:
        only = next(iter(kinds)) or None
        return KVLayout((only,), block_size, page * stage.num_layers)
    if options.disable_hybrid_kv_cache_manager:
        return KVLayout((None,), block_size, page * stage.num_layers)
    fewest, most = min(kinds.values()), max(kinds.values())
    # Nearly equal kinds are padded to the larger; else each group is as small as the smallest kind.
    layers = most if most < 1.25 * fewest else fewest
    groups: list[int | None] = []
    for window in sorted(kinds):
        groups += [window or None] * -(-kinds[window] // layers)
    return KVLayout(tuple(groups), block_size, page * layers)


def check_context_parallel(shape: ModelShape, tensor_parallel_size: int, context_ranks: int) -> None:
    """Refuse what vLLM refuses (`verify_with_parallel_config` in vllm/config/model.py).

    Raises:
        InputError: If ranks that hold the same KV heads are not as many as are to share a sequence.
    """
    if context_ranks == 1:
        return
    name = f"decode_context_parallel_size {context_ranks}"
    if tensor_parallel_size % context_ranks:
        raise InputError(f"{name} does not divide tensor_parallel_size {tensor_parallel_size}")
    alike = tensor_parallel_size if shape.is_mla else tensor_parallel_size // shape.num_kv_heads
    if context_ranks > alike:
        raise InputError(
            f"{name}: with tensor_parallel_size {tensor_parallel_size} the KV heads of {shape.name} "
            f"({1 if shape.is_mla else shape.num_kv_heads}) are held by {max(alike, 1)} ranks each; expected "
            "at most so many"
        )
    if any(shape.layer_windows):
        raise InputError(
            f"{name}: {shape.name} has sliding windows, whose KV cache is not sharded along the sequence; "
            "expected 1 (or disable_sliding_window)"
        )
