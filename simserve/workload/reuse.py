"""How much of a workload's prompts a prefix cache of a given size could reuse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simserve.workload.ideal_hits import leading_blocks
from simserve.workload.workload import Workload

Floats = NDArray[np.float64]

_DEFAULT_BLOCK_TOKENS = 16
# Blocks that are looked up at most: under two seconds.
_MOST_BLOCKS = 150_000


@dataclass(frozen=True, slots=True)
class ReuseCurve:
    """Prefix hits by the size of the cache.

    Attributes:
        cache_tokens: `[n]` sizes, ascending; the last holds everything.
        hit_share: `[n]` hit tokens over all prompt tokens, never falling.
        requests: How many requests were looked at, the first ones.
    """

    cache_tokens: Floats
    hit_share: Floats
    requests: int


def reuse_curve(
    workload: Workload, *, block_tokens: int | None = None, points: int = 200, most_blocks: int = _MOST_BLOCKS
) -> ReuseCurve | None:
    """Return which share of the prompt tokens caches of every size would hit.

    Requests come one after the other. A cache keeps full blocks of prompts and outputs, evicts the least
    recently used, of one request the last first, as vLLM's does, and a block hits if all before it do. Then
    a block is in every cache that is larger than what was used since (its stack distance; Mattson et al.,
    "Evaluation techniques for storage hierarchies", IBM Systems Journal 9, 1970): one pass gives all sizes.

    Args:
        workload: What is asked, in order of arrival.
        block_tokens: Tokens of a block; None: the trace's own, or 16.
        points: Sizes to return at most.
        most_blocks: Stop after so many blocks that others could know.

    Returns:
        The curve; None where every prompt is of its own.
    """
    if workload.prompts is None or workload.shared_tokens is None:
        return None
    size = block_tokens or workload.block_tokens or _DEFAULT_BLOCK_TOKENS
    blocks = leading_blocks(workload, size)
    distances, total, requests, looked_at = [], 0, 0, 0
    stack = _Stack()
    for row, keys in enumerate(blocks):
        tokens = int(workload.prompt_tokens[row])
        total += tokens
        requests += 1
        whole = (tokens + int(workload.output_tokens[row])) // size
        # A prefix hits in caches that hold all of it: the largest distance so far.
        furthest = 0
        for key in keys[: tokens // size]:
            distance = stack.distance(key)
            if distance < 0:
                break
            furthest = max(furthest, distance)
            distances.append(furthest)
        stack.use(keys, alone=max(whole - len(keys), 0))
        looked_at += len(keys)
        if looked_at >= most_blocks:
            break
    found = np.sort(np.array(distances, dtype=np.int64))
    everything = stack.total
    sizes = np.unique(np.geomspace(1, max(everything, 2), points).astype(np.int64))
    hits: Floats = np.searchsorted(found, sizes, side="right").astype(np.float64) * (size / max(total, 1))
    return ReuseCurve(sizes.astype(np.float64) * size, hits, requests)


class _Stack:
    """Blocks in order of their last use, as weights in a Fenwick tree over the times of use."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}
        self._sums = [0] * 1025
        self._time = 0
        self.total = 0

    def distance(self, key: int) -> int:
        """Return how many blocks were used since this one, itself counted; -1 if it never was."""
        at = self._last.get(key)
        return -1 if at is None else self.total - self._until(at - 1)

    def use(self, keys: list[int], alone: int) -> None:
        """Use the blocks of a request: those of its own (`alone`), then the others, its first block last."""
        if alone:
            self._add(self._next(), alone)
            self.total += alone
        for key in reversed(keys):
            before = self._last.get(key)
            if before is None:
                self.total += 1
            else:
                self._add(before, -1)
            self._last[key] = at = self._next()
            self._add(at, 1)

    def _next(self) -> int:
        self._time += 1
        if self._time >= len(self._sums):
            self._grow()
        return self._time

    def _grow(self) -> None:
        """Double the tree: the new half's root holds the sum of all."""
        size = len(self._sums) - 1
        self._sums += [0] * size
        self._sums[2 * size] = self._sums[size]

    def _add(self, at: int, weight: int) -> None:
        sums, end = self._sums, len(self._sums)
        while at < end:
            sums[at] += weight
            at += at & -at

    def _until(self, at: int) -> int:
        found, sums = 0, self._sums
        while at:
            found += sums[at]
            at &= at - 1
        return found
