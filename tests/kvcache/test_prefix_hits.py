"""Block hashes, radix trees and the optimum on the same requests."""

from __future__ import annotations

from functools import cache
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve import registry
from simserve.errors import InputError
from simserve.kvcache.belady import count_optimal_hits
from simserve.kvcache.eviction import build_eviction
from simserve.kvcache.prefix_hits import measure_block_hits, measure_optimal_hits, measure_radix_hits
from simserve.kvcache.radix_pages import RadixPages
from simserve.workload.request import Request, Segment


def build_request(number: int, prompt: list[Segment], outputs: int) -> Request:
    tokens = sum(segment.length for segment in prompt)
    return Request(number, 0, tuple(prompt), tokens, outputs, outputs, 1000 + number, tokens)


PROMPT = st.lists(
    st.builds(
        Segment, st.integers(0, 2), st.integers(0, 2).map(lambda n: 8 * n), st.sampled_from([3, 8, 9, 24])
    ),
    min_size=1,
    max_size=4,
)
REQUESTS = st.lists(st.tuples(PROMPT, st.integers(1, 9)), min_size=1, max_size=25).map(
    lambda rows: [build_request(n, prompt, outputs) for n, (prompt, outputs) in enumerate(rows)]
)
POLICIES = sorted(registry.names("eviction"))


@settings(max_examples=80)
@given(requests=REQUESTS, size=st.sampled_from([1, 2, 8, 16]))
def test_without_eviction_equal_pages_hit_equally_and_tokens_hit_most(
    requests: list[Request], size: int
) -> None:
    room = 10**5
    blocks = measure_block_hits(requests, room, size)
    assert measure_radix_hits(requests, room, size).hit_tokens == blocks.hit_tokens
    assert measure_optimal_hits(requests, room, size).hit_tokens == blocks.hit_tokens
    assert measure_radix_hits(requests, room, 1).hit_tokens >= blocks.hit_tokens
    assert 0 <= blocks.hit_rate < 1


@settings(max_examples=80)
@given(
    requests=REQUESTS,
    size=st.sampled_from([1, 4, 8]),
    pages=st.integers(14, 40),
    policy=st.sampled_from(POLICIES),
)
def test_no_policy_beats_the_optimum(requests: list[Request], size: int, pages: int, policy: str) -> None:
    room = max(pages * size, 8 * 16)
    best = measure_optimal_hits(requests, room, size).hit_tokens
    assert measure_block_hits(requests, room, size).hit_tokens <= best
    assert measure_radix_hits(requests, room, size, policy).hit_tokens <= best


def hit_by_search(accesses: list[tuple[tuple[int, ...], int]], capacity: int) -> int:
    """The most hits over all choices of what to keep."""

    @cache
    def best(number: int, kept: frozenset[int]) -> int:
        if number == len(accesses):
            return 0
        keys, looked_up = accesses[number]
        hits = 0
        while hits < looked_up and keys[hits] in kept:
            hits += 1
        others = sorted(kept - set(keys))
        room = capacity - len(keys)
        choices = combinations(others, min(room, len(others)))
        return hits + max(best(number + 1, frozenset(keys) | frozenset(chosen)) for chosen in choices)

    return best(0, frozenset())


@settings(max_examples=100)
@given(
    paths=st.lists(
        st.tuples(st.lists(st.integers(0, 1), min_size=1, max_size=3), st.integers(0, 1)), max_size=9
    ),
    capacity=st.integers(3, 6),
)
def test_the_optimum_is_what_a_search_over_all_choices_finds(
    paths: list[tuple[list[int], int]], capacity: int
) -> None:
    # The page at the end of a path of a binary tree: 1, then 2 or 3, ...
    accesses = []
    for path, uncounted in paths:
        keys = [1]
        for turn in path:
            keys.append(2 * keys[-1] + turn)
        accesses.append((tuple(keys[1:]), len(path) - uncounted))
    assert count_optimal_hits(accesses, capacity) == hit_by_search(accesses, capacity)


def test_token_pages_save_what_block_ends_lose() -> None:
    # 20 shared tokens: one block of 16, or all 20; the first request has nothing to hit.
    prompts = [[Segment(1, 0, 20), Segment(n, 0, 10)] for n in (2, 3)]
    requests = [build_request(n, prompt, 1) for n, prompt in enumerate(prompts)]
    assert measure_block_hits(requests, 320).hit_tokens == 16
    assert measure_radix_hits(requests, 320).hit_tokens == 20
    assert measure_radix_hits(requests, 320).prompt_tokens == 60


def test_a_request_larger_than_the_cache_is_refused() -> None:
    request = build_request(7, [Segment(0, 0, 40)], 10)
    for measure in (measure_block_hits, measure_radix_hits, measure_optimal_hits):
        with pytest.raises(InputError, match="request 7 needs 49 tokens, the cache holds 48"):
            measure([request], 48)
        assert measure([request], 64).hit_tokens == 0


class Row:
    """A sequence, as the cache sees it."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.shared_limit = 0
        self.computed = 0


@settings(max_examples=80)
@given(
    requests=REQUESTS,
    size=st.sampled_from([1, 4, 16]),
    pages=st.integers(6, 60),
    policy=st.sampled_from(POLICIES),
    enabled=st.booleans(),
    moves=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 9)), max_size=60),
)
def test_pages_of_running_requests_add_up(
    requests: list[Request],
    size: int,
    pages: int,
    policy: str,
    enabled: bool,
    moves: list[tuple[int, int]],
) -> None:
    """Admit, chunk, decode, release and preempt at random: no page is lost, and all come back."""
    kv = RadixPages(pages + 1, size, build_eviction(policy), enable_prefix_caching=enabled)
    waiting = [Row(request) for request in requests]
    running: list[Row] = []
    for pick, move in moves:
        if move < 4 and waiting:
            row = waiting[0]
            kv.attach(row)
            hits, found = kv.lookup(row, row.request.prompt_tokens)
            chunk = min(row.request.prompt_tokens, found + 1 + pick)
            free = kv.pool.num_free
            if kv.admit(row, hits, found, chunk, 0):
                row.computed = chunk
                running.append(waiting.pop(0))
            else:
                assert kv.pool.num_free == free
        elif running:
            row = running[pick % len(running)]
            known = row.request.prompt_tokens + row.request.output_tokens
            target = min(row.computed + 1 + move, known)
            if move < 8:
                room = kv.capacity_tokens(row) + kv.pool.num_free * size
                assert kv.grow(row, row.computed, target) == (target <= room)
                if target <= room:
                    kv.publish(row, target)
                    row.computed = target
            else:
                (kv.release if move == 8 else kv.evict_all)(row)
                running.remove(row)
        kv.check_integrity(running)
    for row in running:
        kv.release(row)
    kv.check_integrity([])
    assert kv.pool.num_free == pages
    assert kv.tree.protected_tokens == 0
