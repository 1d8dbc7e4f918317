"""The block pool: LRU order, hits, evictions, duplicates."""

from __future__ import annotations

import itertools

import pytest

from simserve.errors import IntegrityError
from simserve.kvcache.block_pool import BlockPool


def find(pool: BlockPool, keys: list[int]) -> list[int]:
    """The cached blocks of keys, up to the first miss."""
    return [block for block in itertools.takewhile(bool, map(pool.get, keys)) if block]


def test_blocks_are_taken_in_order_and_come_back_last() -> None:
    pool = BlockPool(6, observe=True)
    assert pool.take(2) == [1, 2]
    pool.release([2, 1])
    assert pool.free_block_ids() == [3, 4, 5, 2, 1]
    assert pool.take(4) == [3, 4, 5, 2]
    assert pool.num_free == 1


def test_a_freed_block_stays_hittable_until_it_is_taken() -> None:
    pool = BlockPool(4, observe=True)
    ids = pool.take(2)
    pool.publish(ids, [11, 12])
    pool.release(reversed(ids))
    assert find(pool, [11, 12, 13]) == ids
    assert pool.take(2) == [3, 2]
    assert pool.evicted == [2]
    assert find(pool, [11, 12]) == [1]


def test_a_hit_leaves_the_middle_of_the_queue() -> None:
    pool = BlockPool(5, observe=True)
    ids = pool.take(2)
    pool.publish(ids, [11, 12])
    pool.release(reversed(ids))
    assert pool.count_idle(ids) == 2
    pool.touch([1])
    assert pool.free_block_ids() == [3, 4, 2]
    assert pool.count_idle(ids) == 1


def test_the_first_of_two_equal_blocks_is_hit_then_the_other() -> None:
    pool = BlockPool(5, observe=True)
    first, second = pool.take(1), pool.take(1)
    pool.publish(first, [11])
    pool.publish(second, [11])
    assert pool.num_cached == 1
    assert find(pool, [11]) == first
    pool.release(first)
    pool.take(3)  # the first is taken again
    assert find(pool, [11]) == second


def test_equal_blocks_evicted_together() -> None:
    pool = BlockPool(3, observe=True)
    ids = pool.take(2)
    pool.publish(ids[:1], [11])
    pool.publish(ids[1:], [11])
    pool.release(ids)
    assert pool.take(2) == ids
    assert pool.num_cached == 0
    pool.check_integrity([ids])


def test_a_watched_key_is_reported_when_it_is_published() -> None:
    pool = BlockPool(4)
    ids = pool.take(2)
    pool.awaited_key = 12
    pool.publish(ids[:1], [11])
    assert not pool.awaited_published
    pool.publish(ids[1:], [12])
    assert pool.awaited_published


@pytest.mark.parametrize("owned", [[[1]], [[1, 2, 2]], [[1, 2, 3]]])
def test_integrity_notices_what_does_not_add_up(owned: list[list[int]]) -> None:
    pool = BlockPool(5)
    assert pool.take(2) == [1, 2]
    pool.check_integrity([[1, 2]])
    with pytest.raises(IntegrityError):
        pool.check_integrity(owned)
