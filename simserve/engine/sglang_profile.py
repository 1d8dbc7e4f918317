"""What SGLang 0.5.23 does on an accelerator where the user says nothing (`arg_groups/memory_hook.py`)."""

from __future__ import annotations

from simserve.devices.accelerator import GIB

MIB = 2**20
# Accelerators below so many GiB: tokens of a prefill chunk, largest decode batch with a CUDA graph on fewer
# than four GPUs and on more.
_BY_MEMORY = (
    (20, 2048, 8, 8),
    (35, 4096, 48, 160),
    (60, 4096, 32, 160),
    (160, 8192, 256, 512),
)
_ON_LARGER = (16384, 512, 512)
# Requests at once: SGLang takes 512 times as many as the pool holds at full length, at least so many and
# 4,096 at most.
LEAST_RUNNING_REQUESTS = 2048
# Memory set aside beside weights and KV pool, in MiB: a constant, and by token of a chunk, by GPU of the
# instance, by row of the largest decode graph and by captured prefill graph; at least 10 GiB on large GPUs.
_RESERVED_MIB = 512
_LEAST_CHUNK = 2048
_PER_TOKEN_MIB = 1.5
_PER_GPU_MIB = 128
_PER_GRAPH_ROW_MIB = 2
_PER_PREFILL_GRAPH_MIB = 8
_LARGE_GPU, _RESERVED_ON_LARGE = 60 * GIB, 10 * 1024


def default_chunked_prefill_size(memory_bytes: int) -> int:
    """Return the prompt tokens of one prefill batch."""
    return _defaults(memory_bytes)[0]


def default_mem_fraction_static(
    memory_bytes: int, chunk_tokens: int, tensor_parallel_size: int, max_running_requests: int | None
) -> float:
    """Return the share of an accelerator's memory that holds weights and KV pool.

    Args:
        memory_bytes: Of one accelerator.
        chunk_tokens: Prompt tokens of a prefill batch.
        tensor_parallel_size: GPUs of an instance.
        max_running_requests: As given; None: not given.
    """
    _, few, many = _defaults(memory_bytes)
    rows = few if tensor_parallel_size < 4 else many
    if max_running_requests is not None:
        rows = min(rows, max_running_requests)
    reserved = _RESERVED_MIB + _PER_TOKEN_MIB * max(chunk_tokens, _LEAST_CHUNK)
    reserved += _PER_GPU_MIB * tensor_parallel_size + _PER_GRAPH_ROW_MIB * rows
    reserved += _PER_PREFILL_GRAPH_MIB * _count_prefill_graphs(chunk_tokens)
    if memory_bytes > _LARGE_GPU:
        reserved = max(reserved, _RESERVED_ON_LARGE)
    total = memory_bytes / MIB
    return round((total - reserved) / total, 3)


def _defaults(memory_bytes: int) -> tuple[int, int, int]:
    for below, chunk, few, many in _BY_MEMORY:
        if memory_bytes < below * GIB:
            return chunk, few, many
    return _ON_LARGER


def _count_prefill_graphs(chunk_tokens: int) -> int:
    """Sizes up to a chunk: by 4 to 32, then in steps that double from 16 to 512."""
    steps = ((4, 32, 4), (48, 256, 16), (288, 512, 32), (576, 1024, 64), (1280, 4096, 256))
    sizes = [size for first, last, step in steps for size in range(first, last + 1, step)]
    sizes += range(4608, chunk_tokens + 1, 512)
    return sum(size <= chunk_tokens for size in sizes)
