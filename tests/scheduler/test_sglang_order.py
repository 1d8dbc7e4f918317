"""SGLang's queue orders."""

from __future__ import annotations

import pytest

from simserve.errors import InputError
from simserve.scheduler.sglang import SglangScheduler
from simserve.workload.request import Segment
from tests.scheduler.sglang_loads import add, build, step


def sorted_ids(scheduler: SglangScheduler) -> list[int]:
    scheduler.order.sort(scheduler.waiting, scheduler.batch.rows, scheduler.processed_tokens)
    return [row.id for row in scheduler.waiting]


def test_a_shared_new_prefix_lets_one_request_go_first() -> None:
    scheduler = build(schedule_policy="lpm", pool_tokens=1000, context_len=500)
    add(scheduler, 0, 40, stream=7)
    add(scheduler, 1, 40, stream=7)
    add(scheduler, 2, 50)
    assert sorted_ids(scheduler) == [0, 2, 1]
    assert [row.id for row in scheduler.order.deprioritized] == [1]


def test_hrrn_ages_by_processed_tokens() -> None:
    scheduler = build(schedule_policy="hrrn", pool_tokens=1000, context_len=500)
    add(scheduler, 0, 50)
    scheduler.processed_tokens = 100
    add(scheduler, 1, 10)
    add(scheduler, 2, 12)
    assert sorted_ids(scheduler) == [0, 1, 2]  # 100 / 50, then no age: by id
    scheduler.processed_tokens = 130
    assert sorted_ids(scheduler) == [1, 0, 2]  # 30 / 10, 130 / 50, 30 / 12


def test_a_long_queue_is_not_matched() -> None:
    scheduler = build(schedule_policy="lpm", pool_tokens=4000, context_len=500)
    scheduler.pool.tree.insert([Segment(250, 0, 20)], 20)
    for request_id in range(129):
        add(scheduler, request_id, 10, stream=279 - request_id)
    assert sorted_ids(scheduler) == list(range(129))
    scheduler.abort(0)
    assert sorted_ids(scheduler)[0] == 29


def test_random_is_drawn_from_the_seed() -> None:
    def order(seed: int) -> list[int]:
        scheduler = build(schedule_policy="random", random_seed=seed)
        for request_id in range(12):
            add(scheduler, request_id, 3)
        return sorted_ids(scheduler)

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert sorted(order(1)) == list(range(12))


def test_routing_keys_of_running_requests_come_first() -> None:
    scheduler = build(schedule_policy="routing-key")
    for request_id, session in enumerate("abb"):
        add(scheduler, request_id, 3, 9, session=session)
    step(scheduler)
    step(scheduler)
    for request_id, session in enumerate(("", "c", "a", "b"), start=10):
        add(scheduler, request_id, 3, session=session)
    assert sorted_ids(scheduler) == [13, 12, 10, 11]


def test_without_a_tree_cache_aware_policies_are_fcfs_and_one_is_refused() -> None:
    assert build(schedule_policy="lpm", disable_radix_cache=True).order.policy == "fcfs"
    with pytest.raises(InputError, match="shortest-prefill-first needs the radix cache"):
        build(schedule_policy="shortest-prefill-first", disable_radix_cache=True)
