"""The GPU's cache and the tiers behind it, as one cache."""

from __future__ import annotations

from typing import Any

import pytest

from simserve.kvcache.cache_plan import CachePlan, TierPlan
from simserve.kvcache.run import NO_HITS
from simserve.kvcache.tier import TierSpec
from simserve.kvcache.tiered_cache import TieredCache
from simserve.scheduler.sequence import Sequence
from simserve.workload.request import Request, Segment

CHUNK = 8


def build(kind: Any = "paged", write: Any = "through", blocks: int = 11, **plan: Any) -> TieredCache:
    """Ten blocks of four tokens on the GPU, and ten chunks of eight behind it, a byte a token."""
    tier = TierSpec("host", 10 * CHUNK, 1e9, 0.0, write)
    tiers = TierPlan((tier,), (False,), 1, chunk_tokens=CHUNK, **plan)
    cache = CachePlan(kind, tiers=tiers).build(blocks, 4, enable_prefix_caching=True)
    assert isinstance(cache, TieredCache)
    return cache


def sequence(number: int, stream: int, prompt: int, outputs: int = 1) -> Sequence:
    request = Request(
        number, 0, (Segment(stream, 0, prompt),), prompt, outputs, outputs, 100 + number, prompt + outputs
    )
    return Sequence(request, 0.0, 10**6)


def take(cache: TieredCache) -> list[tuple[str, str, int]]:
    return [(move.source, move.target, move.size_bytes) for move in cache.take_moves()]


def serve(cache: TieredCache, row: Sequence) -> int:
    """Run a request to its end; returns what was found."""
    cache.attach(row)
    hits, found = cache.lookup(row, row.known)
    prompt = row.request.prompt_tokens
    assert cache.admit(row, hits, found, prompt, 0)
    cache.publish(row, prompt)
    row.computed = prompt
    while row.computed < prompt + row.request.max_tokens - 1:
        assert cache.grow(row, row.computed, row.computed + 1)
        row.computed += 1
        if not row.computed % cache.block_size:
            cache.publish(row, row.computed)
    cache.check_integrity([row])
    cache.release(row)
    cache.check_integrity([])
    return found


@pytest.mark.parametrize("kind", ["paged", "radix"])
def test_what_the_gpu_dropped_is_fetched(kind: str) -> None:
    cache = build(kind)
    assert serve(cache, sequence(0, 1, 32)) == 0
    assert take(cache) == [("gpu", "host", 32)]
    assert serve(cache, sequence(1, 2, 32)) == 0  # pushes most of the first off the GPU
    cache.take_moves()
    row = sequence(2, 1, 32)
    cache.attach(row)
    hits, found = cache.lookup(row, 32)
    assert found == 24  # three chunks; the fourth holds the last token, which is always computed
    assert hits.gpu_tokens < 24
    assert serve(cache, row) == 24
    moves = take(cache)
    fetched = 24 - hits.gpu_tokens // CHUNK * CHUNK
    assert ("host", "gpu", fetched) in moves
    assert cache.tier_counts["host"].read_bytes == fetched
    assert not cache.has_moves


def test_outputs_are_stored_when_the_request_leaves() -> None:
    cache = build()
    serve(cache, sequence(0, 1, 8, outputs=9))
    # 16 tokens have been computed: a chunk of prompt, then one of outputs.
    assert take(cache) == [("gpu", "host", 8)] * 2
    assert len(cache.stack.tiers[0].chunks) == 2


def test_write_back_stores_what_the_tree_drops() -> None:
    cache = build("radix", "back")
    serve(cache, sequence(0, 1, 32))
    assert not cache.has_moves
    serve(cache, sequence(1, 2, 32))
    assert take(cache) == [("gpu", "host", 32)]
    assert serve(cache, sequence(2, 1, 32)) == 24


def test_what_is_sooner_computed_is_not_fetched() -> None:
    for seconds, expected in ((1e-12, 0), (1.0, 24)):
        cache = build(recompute_s=lambda history, tokens, s=seconds: s * tokens)
        serve(cache, sequence(0, 1, 32))
        serve(cache, sequence(1, 2, 40))
        assert serve(cache, sequence(2, 1, 32)) == expected


def test_nothing_is_looked_for_that_nobody_shares() -> None:
    cache = build()
    serve(cache, sequence(0, 1, 32))
    row = sequence(1, 1, 32)
    row.request.shared_tokens = 0
    hits, found = cache.lookup(row, 32)
    assert (found, hits.keys) == (0, [])


def test_a_refused_sequence_moves_nothing() -> None:
    cache = build()
    serve(cache, sequence(0, 1, 32))
    serve(cache, sequence(1, 2, 40))
    cache.take_moves()
    row = sequence(2, 1, 32)
    hits, found = cache.lookup(row, 32)
    assert not cache.admit(row, hits, found, 32, 44)
    assert not cache.has_moves
    cache.check_integrity([])


def test_a_preempted_sequence_leaves_no_trace() -> None:
    cache = build()
    row = sequence(0, 1, 32)
    hits, found = cache.lookup(row, 32)
    assert cache.admit(row, hits, found, 32, 0)
    assert cache.capacity_tokens(row) == 32
    cache.evict_all(row)
    cache.check_integrity([])
    assert cache.pool.num_free == 10
    assert not cache._chunks._keys
    # One that comes back from a swap brings its own tokens.
    assert cache.admit(row, NO_HITS, 0, 32, 36)
    cache.check_integrity([row])
    cache.release(row)


def test_prefetch_brings_a_request_into_the_first_tier() -> None:
    host = TierSpec("host", 4 * CHUNK, 1e9, 0.0, "through")
    drive = TierSpec("drive", 40 * CHUNK, 1e9, 0.0, "through")
    tiers = TierPlan((host, drive), (False, True), 1, chunk_tokens=CHUNK, prefetch=True)
    cache = CachePlan(tiers=tiers).build(11, 4, enable_prefix_caching=True)
    for number, stream in enumerate((1, 2, 3)):
        serve(cache, sequence(number, stream, 32))
    cache.take_moves()
    row = sequence(5, 1, 32)
    cache.attach(row)
    cache.prefetch(row)
    # The last token is computed in any case, so three chunks are wanted.
    (prefetch,) = cache.take_moves()
    assert prefetch[:3] == ("drive", "host", 24)
    hits, found = cache.lookup(row, 32)
    assert found == 24
    assert cache.admit(row, hits, found, 32, 0)
    # The fetch waits for the prefetch.
    fetch = cache.take_moves()[0]
    assert (fetch[:3], fetch.after) == (("host", "gpu", 24), (prefetch.ticket,))
    cache.prefetch(sequence(6, 9, 32))
    assert not cache.has_moves
