"""Prefix hits of an ideal cache, and which tokens can be shared at all."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from simserve.workload.request import Segment
from simserve.workload.workload import IntColumn, Prompts, Workload


def ideal_hit_tokens(workload: Workload, block_tokens: int, outputs: bool = False) -> int:
    """Return the prompt tokens in leading full blocks that an earlier request had too.

    The cache is infinite, insertion is instant, and only full blocks count.

    Args:
        workload: Its prompts must not be None.
        block_tokens: Tokens of a block.
        outputs: Whether full blocks of earlier requests' prompt and output together are known too.
    """
    assert workload.prompts is not None
    if workload.shared_tokens is None:
        return 0
    known: dict[tuple[object, ...], int] = {}
    hits = 0
    streams = _column(workload.output_stream, workload.count)
    prompts = workload.prompts.tuples(0, workload.count)
    lengths = zip(workload.shared_tokens.tolist(), workload.output_tokens.tolist(), strict=True)
    for row, (shared, generated) in enumerate(lengths):
        if not shared:
            continue
        segments = prompts[row]
        prompt_blocks = int(workload.prompt_tokens[row]) // block_tokens
        if outputs and generated:
            segments = (*segments, Segment(int(streams[row]), 0, generated))
        parent, leading = 0, True
        # A block behind the shared tokens is met once only; it can neither hit nor be hit.
        last = -(-shared // block_tokens) if outputs else min(prompt_blocks, -(-shared // block_tokens))
        for index, block in enumerate(_blocks(segments, block_tokens, last)):
            key = (parent, *block)
            found = known.get(key)
            if found is None:
                leading = False
                known[key] = parent = len(known) + 1
            else:
                parent = found
                hits += block_tokens if leading and index < prompt_blocks else 0
    return hits


def leading_blocks(workload: Workload, block_tokens: int) -> Iterator[list[int]]:
    """Yield, for each request, its leading full blocks that another could have too, as numbers of prefixes.

    Equal numbers are equal blocks behind equal blocks. Blocks of the output follow those of the prompt.

    Args:
        workload: Its prompts and shared tokens must not be None.
        block_tokens: Tokens of a block.
    """
    assert workload.prompts is not None
    assert workload.shared_tokens is not None
    known: dict[tuple[object, ...], int] = {}
    streams = _column(workload.output_stream, workload.count)
    for row, shared in enumerate(workload.shared_tokens.tolist()):
        (segments,) = workload.prompts.tuples(row, row + 1)
        generated = int(workload.output_tokens[row])
        if generated:
            segments = (*segments, Segment(int(streams[row]), 0, generated))
        parent, keys = 0, []
        for block in _blocks(segments, block_tokens, -(-shared // block_tokens)):
            parent = known.setdefault((parent, *block), len(known) + 1)
            keys.append(parent)
        yield keys


def _blocks(segments: tuple[Segment, ...], block_tokens: int, most: int) -> Iterator[tuple[int, ...]]:
    """Yield up to `most` leading full blocks, each as stream, start, length of its parts in one tuple."""
    parts: tuple[int, ...] = ()
    filled = 0
    for stream, start, length in segments:
        end = start + length
        while start < end:
            taken = min(block_tokens - filled, end - start)
            parts = (*parts, stream, start, taken)
            start += taken
            filled += taken
            if filled == block_tokens:
                if not most:
                    return
                yield parts
                most -= 1
                parts, filled = (), 0


def shared_bound(
    prompts: Prompts, prompt_tokens: IntColumn, output_tokens: IntColumn, output_stream: IntColumn | None
) -> IntColumn:
    """Return an upper bound of `Request.shared_tokens` for each row, from the streams that several rows use.

    Args:
        prompts: All prompts.
        prompt_tokens, output_tokens: Shape (rows,).
        output_stream: Shape (rows,); None: the row's number.
    """
    count = len(prompt_tokens)
    rows = np.repeat(np.arange(count, dtype=np.int64), np.diff(prompts.offsets))
    streams = np.concatenate((prompts.stream, _column(output_stream, count)))
    users = np.concatenate((rows, np.arange(count, dtype=np.int64)))
    names, inverse = np.unique(streams, return_inverse=True)
    pairs = np.unique(inverse * count + users)
    shared = (np.bincount(pairs // count, minlength=len(names)) > 1)[inverse]
    totals = np.concatenate(([0], np.cumsum(prompts.length)))
    ends = totals[1:] - totals[prompts.offsets[rows]]
    bound = np.zeros(count, dtype=np.int64)
    np.maximum.at(bound, rows, np.where(shared[: len(rows)], ends, 0))
    return np.where(shared[len(rows) :], prompt_tokens + output_tokens, bound)


def _column(output_stream: IntColumn | None, count: int) -> IntColumn:
    return np.arange(count, dtype=np.int64) if output_stream is None else output_stream
