"""Blocks of sharded sequences on ranks with pools of their own: counts, limits, imbalance."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.errors import InputError, IntegrityError
from simserve.kvcache.sharded import PLACEMENTS, ShardedCache
from simserve.scheduler.sequence import Sequence
from simserve.workload.request import Request


def sequence(request_id: int, prompt: int) -> Sequence:
    return Sequence(Request(request_id, 0, (), prompt, 500, 500, request_id), request_id, 10**6)


def admit(cache: ShardedCache, table: Sequence, room_for: int = 0) -> bool:
    admitted = cache.admit(table, *cache.lookup(table, table.known), table.known, room_for)
    if admitted:
        table.computed = table.known
    return admitted


def test_blocks_go_round_the_ranks() -> None:
    cache = ShardedCache(4, 10, 16)
    assert admit(cache, sequence(0, 6 * 16))
    assert cache.free == [8, 8, 9, 9]
    table = sequence(1, 16)
    assert admit(cache, table)
    assert cache.free == [7, 8, 9, 9]
    assert cache.grow(table, 16, 16 * 3)
    assert cache.free == [7, 7, 8, 9]
    cache.release(table)
    assert cache.free == [8, 8, 9, 9]
    assert cache.pool.num_free == 34


def test_placements_begin_where_they_say() -> None:
    starts = {}
    for placement in PLACEMENTS:
        cache = ShardedCache(4, 10, 16, placement)
        for number in range(3):
            admit(cache, sequence(number + 1, 16))
        starts[placement] = cache.free
    assert starts == {"aligned": [7, 10, 10, 10], "rotate": [10, 9, 9, 9], "least_used": [9, 9, 9, 10]}


def test_a_block_that_lies_on_another_rank_is_of_no_use() -> None:
    cache = ShardedCache(2, 3, 16)
    held = [sequence(number, 16) for number in range(3)]
    assert all(admit(cache, table) for table in held)
    late = sequence(3, 16)
    assert (cache.free, admit(cache, late), admit(cache, late)) == ([0, 3], False, False)
    assert (cache.shards.refused, cache.shards.refused_by_imbalance) == (1, 1)
    assert cache.grow(held[0], 16, 17), "its next block lies on the other rank"
    cache.check_integrity(held)
    balanced = ShardedCache(2, 3, 16, "least_used")
    assert all(admit(balanced, sequence(number, 16)) for number in range(6))


def test_room_is_asked_for_more_than_is_taken() -> None:
    cache = ShardedCache(2, 3, 16)
    assert not admit(cache, sequence(0, 16), room_for=7 * 16)
    table = sequence(1, 16)
    assert admit(cache, table, room_for=6 * 16)
    assert (cache.pool.num_free, cache.capacity_tokens(table)) == (5, 16)


def test_the_imbalance_of_steps_adds_up() -> None:
    cache = ShardedCache(4, 10, 16)
    held = [sequence(0, 16), sequence(1, 5 * 16)]
    admit(cache, held[0])
    cache.sample(0, held[:1])
    admit(cache, held[1])
    cache.sample(1, held, steps=3, decoders=2)
    log = cache.shards
    assert (log.steps, log.used_sum, log.fullest_sum, log.worst) == (4, 1 + 3 * 6, 1 + 3 * 3, 3 * 4 - 6)


@settings(max_examples=100, deadline=None)
@given(
    ranks=st.integers(1, 5),
    placement=st.sampled_from(PLACEMENTS),
    operations=st.lists(st.tuples(st.sampled_from("aaggr"), st.integers(0, 99)), max_size=60),
)
def test_no_block_is_lost_and_none_is_given_twice(
    ranks: int, placement: str, operations: list[tuple[str, int]]
) -> None:
    blocks, size = 6, 4
    cache = ShardedCache(ranks, blocks, size, placement)
    running: list[Sequence] = []
    for step, (what, number) in enumerate(operations):
        before = cache.pool.num_free, cache.free[:]
        if what == "a":
            table = sequence(step, 1 + number % (size * 8))
            if admit(cache, table):
                running.append(table)
            else:
                assert (cache.pool.num_free, cache.free) == before
        elif running and what == "r":
            cache.release(running.pop(number % len(running)))
        elif running:
            table = running[number % len(running)]
            if cache.grow(table, table.computed, table.computed + 1 + number % 9):
                table.computed += 1 + number % 9
            else:
                assert (cache.pool.num_free, cache.free) == before
        cache.check_integrity(running)
        cache.sample(step, running)
    assert cache.shards.fullest_sum * ranks >= cache.shards.used_sum
    if placement == "aligned":
        # The closed form: every sequence burdens a rank by at most one block more than the last one.
        assert max(cache.free) - min(cache.free) <= len(running)
    for table in running:
        cache.release(table)
    assert cache.free == [blocks] * ranks


def test_strangers_and_unknown_placements_are_found() -> None:
    with pytest.raises(InputError, match="did you mean 'rotate'"):
        ShardedCache(2, 3, 16, "rotat")
    cache = ShardedCache(2, 3, 16)
    table = sequence(0, 40)
    admit(cache, table)
    with pytest.raises(IntegrityError, match="differ"):
        cache.check_integrity([])
    cache.free[1] += 1
    with pytest.raises(IntegrityError, match="rank 1"):
        cache.check_integrity([table])
