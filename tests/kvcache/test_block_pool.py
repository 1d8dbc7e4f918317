"""The block pool: LRU order, hits, evictions, duplicates; counted blocks beside tracked ones."""

from __future__ import annotations

import pytest

from simserve.errors import IntegrityError
from simserve.kvcache.block_pool import BlockPool


def take_owned(pool: BlockPool, count: int) -> list[int]:
    ids = pool.take(count)
    pool.own(ids)
    return ids


def test_blocks_are_taken_in_order_and_come_back_last() -> None:
    pool = BlockPool(6, observe=True)
    assert take_owned(pool, 2) == [1, 2]
    pool.release([2, 1])
    assert pool.free_block_ids() == [3, 4, 5, 2, 1]
    assert take_owned(pool, 4) == [3, 4, 5, 2]
    assert pool.num_free == 1


def test_a_freed_block_stays_hittable_until_it_is_taken() -> None:
    pool = BlockPool(4, observe=True)
    ids = take_owned(pool, 2)
    pool.publish(ids, [11, 12])
    pool.release(reversed(ids))
    assert pool.find([11, 12, 13]) == ids
    assert take_owned(pool, 2) == [3, 2]
    assert pool.evicted == [2]
    assert pool.find([11, 12]) == [1]


def test_a_hit_leaves_the_middle_of_the_queue() -> None:
    pool = BlockPool(5, observe=True)
    ids = take_owned(pool, 2)
    pool.publish(ids, [11, 12])
    pool.release(reversed(ids))
    assert pool.count_idle(ids) == 2
    pool.touch([1])
    assert pool.free_block_ids() == [3, 4, 2]
    assert pool.count_idle(ids) == 1


def test_the_first_of_two_equal_blocks_is_hit_then_the_other() -> None:
    pool = BlockPool(5, observe=True)
    first, second = take_owned(pool, 1), take_owned(pool, 1)
    pool.publish(first, [11])
    pool.publish(second, [11])
    assert pool.num_cached == 1
    assert pool.find([11]) == first
    pool.release(first)
    take_owned(pool, 3)  # the first is taken again
    assert pool.find([11]) == second


def test_equal_blocks_evicted_together() -> None:
    pool = BlockPool(3, observe=True)
    ids = take_owned(pool, 2)
    pool.publish(ids[:1], [11])
    pool.publish(ids[1:], [11])
    pool.release(ids)
    assert take_owned(pool, 2) == ids
    assert pool.num_cached == 0
    pool.check_integrity([ids], 0)


def test_counted_blocks_keep_their_place_in_the_queue() -> None:
    pool = BlockPool(10)
    pool.take_counted(4)
    shared = take_owned(pool, 2)
    pool.publish(shared, [21, 22])
    pool.release_counted(4, 3)
    pool.release(reversed(shared))
    assert pool.num_cached == 2 + 3
    pool.take_counted(3)  # what was never used
    assert pool.num_cached == 5
    pool.take_counted(1)  # of the four, the one without a hash comes first
    assert pool.num_cached == 5
    pool.take_counted(3)
    assert pool.num_cached == 2
    assert pool.find([21, 22]) == shared
    pool.take_counted(2)
    assert pool.find([21]) == []
    assert pool.num_free == 0
    pool.check_integrity([], 9)


def test_ids_of_counted_blocks_are_unique() -> None:
    pool = BlockPool(8)
    pool.take_counted(5)
    pool.release_counted(5, 0)
    ids = take_owned(pool, 7)
    assert sorted(ids) == list(range(1, 8))
    pool.check_integrity([ids], 0)


def test_a_watched_key_is_reported_when_it_is_published() -> None:
    pool = BlockPool(4)
    ids = take_owned(pool, 2)
    pool.awaited_key = 12
    pool.publish(ids[:1], [11])
    assert not pool.awaited_published
    pool.publish(ids[1:], [12])
    assert pool.awaited_published


@pytest.mark.parametrize(
    ("owned", "counted"), [([[1]], 0), ([[1, 2, 2]], 0), ([[1, 2]], 1), ([[1, 2, 3]], 0)]
)
def test_integrity_notices_what_does_not_add_up(owned: list[list[int]], counted: int) -> None:
    pool = BlockPool(5, observe=True)
    assert take_owned(pool, 2) == [1, 2]
    pool.check_integrity([[1, 2]], 0)
    with pytest.raises(IntegrityError):
        pool.check_integrity(owned, counted)
