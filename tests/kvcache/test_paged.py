"""Block tables by runs decide what block tables by ids do, whatever comes in whatever order."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.errors import IntegrityError
from simserve.kvcache.block_pool import BlockPool
from simserve.kvcache.grouped import GroupedCache
from simserve.kvcache.paged import PagedCache
from simserve.kvcache.pool import UNKEYED
from simserve.kvcache.run_pool import RunPool
from simserve.scheduler.sequence import Sequence
from simserve.workload.request import Request, Segment


class Pair:
    """The two caches, and the same sequences in both."""

    def __init__(self, blocks: int, block_size: int, drop_last_hit: bool = False) -> None:
        self.runs = RunPool(blocks, block_size)
        self.ids = BlockPool(blocks)
        options: dict[str, Any] = {"enable_prefix_caching": True, "drop_last_hit": drop_last_hit}
        self.caches: tuple[Any, Any] = (
            PagedCache(self.runs, **options),
            GroupedCache(self.ids, block_size, [None], **options),
        )
        self.held: list[tuple[Sequence, Sequence]] = []

    def admit(self, request: Request, known: int, tokens: int) -> bool:
        pair = (Sequence(request, 0.0, 10**6), Sequence(request, 0.0, 10**6))
        answers = []
        for cache, sequence in zip(self.caches, pair, strict=True):
            cache.attach(sequence)
            hits, hit_tokens = cache.lookup(sequence, known)
            wanted = max(tokens, hit_tokens + 1)
            answers.append((hit_tokens, wanted, cache.admit(sequence, hits, hit_tokens, wanted, 0)))
        assert answers[0] == answers[1]
        if answers[0][2]:
            for sequence in pair:
                sequence.computed = answers[0][1]
            self.held.append(pair)
        return answers[0][2]

    def grow(self, pair: tuple[Sequence, Sequence], tokens: int, publish: int) -> None:
        grown = [
            cache.grow(sequence, sequence.computed, tokens)
            for cache, sequence in zip(self.caches, pair, strict=True)
        ]
        assert grown[0] == grown[1]
        if grown[0]:
            for cache, sequence in zip(self.caches, pair, strict=True):
                sequence.computed = tokens
                cache.publish(sequence, publish)

    def release(self, pair: tuple[Sequence, Sequence], evict: bool) -> None:
        self.held.remove(pair)
        for cache, sequence in zip(self.caches, pair, strict=True):
            (cache.evict_all if evict else cache.release)(sequence)

    def check(self) -> None:
        assert self.runs.num_free == self.ids.num_free
        assert self.free_keys() == [self.ids._key_of.get(block) for block in self.ids.free_block_ids()]
        assert self.caches[0].count_cached([]) == self.caches[1].count_cached([])
        for cache in self.caches:
            cache.check_integrity([pair[0] for pair in self.held])

    def free_keys(self) -> list[int | None]:
        keys: list[int | None] = []
        for run in self.runs.free_runs():
            blocks = reversed(range(run.size))
            keys += [None if run.key == UNKEYED else run.key + i * self.runs.block_size for i in blocks]
        return keys


def draw_request(draw: random.Random, number: int) -> Request:
    """Few streams and lengths, so that prompts meet, branch off in the middle and go on again."""
    prompt = tuple(
        Segment(draw.choice((1, 2, 3, 50 + draw.randrange(4))), 0, draw.choice((1, 3, 4, 8, 13, 20)))
        for _ in range(draw.randint(1, 3))
    )
    length = sum(segment.length for segment in prompt)
    output = draw.randint(1, 30)
    stream = draw.choice((50 + draw.randrange(4), 1000 + number))
    return Request(number, 0, prompt, length, output, output, stream, shared_tokens=length + output)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    block_size=st.integers(1, 4),
    blocks=st.integers(6, 60),
    drop_last_hit=st.booleans(),
)
def test_runs_decide_what_blocks_do(seed: int, block_size: int, blocks: int, drop_last_hit: bool) -> None:
    draw = random.Random(seed)
    pair = Pair(blocks, block_size, drop_last_hit)
    for number in range(60):
        choice = draw.random()
        if choice < 0.4 or not pair.held:
            request = draw_request(draw, number)
            pair.admit(request, request.prompt_tokens, draw.randint(1, request.prompt_tokens))
        elif choice < 0.8:
            held = draw.choice(pair.held)
            request = held[0].request
            most = request.prompt_tokens + request.max_tokens
            tokens = min(most, held[0].computed + draw.randint(1, 9))
            pair.grow(held, tokens, draw.randint(max(0, tokens - 3), tokens))
        else:
            pair.release(draw.choice(pair.held), evict=draw.random() < 0.3)
        pair.check()
    while pair.held:
        pair.release(pair.held[0], evict=False)
        pair.check()
    assert pair.runs.num_free == blocks - 1


def test_a_run_is_split_where_a_request_branches_off() -> None:
    pool = RunPool(20, 4)
    cache = PagedCache(pool, enable_prefix_caching=True)
    long, short = (
        Sequence(Request(i, 0, (Segment(1, 0, length),), length, 1, 1, 9 + i, shared_tokens=length), 0.0, 99)
        for i, length in enumerate((40, 21))
    )
    for sequence, tokens in ((long, 40), (short, 21)):
        cache.attach(sequence)
        hits, hit_tokens = cache.lookup(sequence, tokens)
        assert cache.admit(sequence, hits, hit_tokens, tokens, 0)
    assert hit_tokens == 20
    assert [run.size for run in short.runs] == [5]
    assert long.runs[0].rest is not None
    cache.release(long)
    assert pool.num_free == 19 - 6
    cache.release(short)
    assert pool.num_free == 19
    cache.check_integrity([])


def test_blocks_that_nobody_can_hit_leave_in_order_of_release() -> None:
    pool = RunPool(10, 4)
    pool.take(4)
    pool.release_unkeyed(4, 3)
    assert pool.num_cached == 3
    pool.take(5)  # what was never used
    assert pool.num_cached == 3
    pool.take(1)  # of the four, the one without a hash comes first
    assert pool.num_cached == 3
    pool.take(2)
    assert pool.num_cached == 1


def test_a_watched_key_is_reported_when_its_run_is_published() -> None:
    pool = RunPool(10, 4)
    pool.take(3)
    runs: list[Any] = []
    sizes: list[int] = []
    pool.awaited_key = 1012
    pool.publish(runs, sizes, 1004, 2)
    assert not pool.awaited_published
    pool.publish(runs, sizes, 1012, 1)
    assert pool.awaited_published
    assert (len(runs), sizes) == (1, [3])


def test_integrity_notices_what_does_not_add_up() -> None:
    pool = RunPool(10, 4)
    pool.take(3)
    runs: list[Any] = []
    sizes: list[int] = []
    pool.publish(runs, sizes, 1004, 2)
    pool.check_integrity([(runs, sizes)], 1)
    for owned, unkeyed in (([(runs, sizes)], 0), ([], 1), ([(runs, sizes), (runs, sizes)], 1)):
        with pytest.raises(IntegrityError):
            pool.check_integrity(owned, unkeyed)
