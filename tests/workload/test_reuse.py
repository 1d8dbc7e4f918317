"""Reuse by the size of a prefix cache: against a cache that is really kept, and against the unbounded one."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import simserve
from simserve.workload.ideal_hits import ideal_hit_tokens, shared_bound
from simserve.workload.reuse import reuse_curve
from simserve.workload.workload import Prompts, Workload

BLOCK = 4


def made(rows: list[list[int]]) -> Workload:
    """A workload whose prompts are blocks of the streams named, with outputs of 8 tokens."""
    count = len(rows)
    offsets = np.cumsum([0, *map(len, rows)])
    streams = np.array([1000 + stream for row in rows for stream in row], dtype=np.int64)
    nothing = np.zeros(len(streams), dtype=np.int64)
    prompts = Prompts(offsets, streams, nothing, np.full(len(streams), BLOCK, dtype=np.int64))
    lengths = np.array([BLOCK * len(row) for row in rows], dtype=np.int64)
    outputs = np.full(count, 2 * BLOCK, dtype=np.int64)
    return Workload(
        "made", np.arange(count, dtype=np.int64), lengths, outputs, prompts=prompts,
        shared_tokens=shared_bound(prompts, lengths, outputs, None),
    )  # fmt: skip


def hits_of(rows: list[list[int]], size: int) -> int:
    """Blocks that a cache of `size` blocks hits: least recently used, of one request the last block first."""
    cache: OrderedDict[tuple[object, ...], None] = OrderedDict()
    hits = 0
    for number, row in enumerate(rows):
        keys = [tuple(row[: depth + 1]) for depth in range(len(row))]
        for key in keys:
            if key not in cache:
                break
            hits += 1
        own = [(*row, "output", number, index) for index in range(2)]
        for used in reversed([*keys, *own]):
            cache.pop(used, None)
            cache[used] = None
        while len(cache) > size:
            cache.popitem(last=False)
    return hits


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4), min_size=2, max_size=25))
def test_one_pass_gives_what_caches_of_every_size_hit(rows: list[list[int]]) -> None:
    load = made(rows)
    curve = reuse_curve(load, block_tokens=BLOCK, points=1000)
    assert curve is not None
    total = int(load.prompt_tokens.sum())
    for tokens, share in zip(curve.cache_tokens, curve.hit_share, strict=True):
        assert share == pytest.approx(hits_of(rows, int(tokens) // BLOCK) * BLOCK / total)


def test_the_largest_cache_hits_all_that_can_be_hit() -> None:
    load = simserve.read_trace(simserve.find_file("traces/multi-turn.jsonl.gz"))
    curve = reuse_curve(load, block_tokens=16)
    assert curve is not None
    assert curve.requests == load.count
    assert curve.hit_share[-1] == pytest.approx(
        ideal_hit_tokens(load, 16, outputs=True) / load.prompt_tokens.sum()
    )
    assert (np.diff(curve.hit_share) >= 0).all()


def test_prompts_of_their_own_have_no_curve() -> None:
    assert reuse_curve(simserve.read_trace(simserve.find_file("traces/chat.csv.gz"))) is None
