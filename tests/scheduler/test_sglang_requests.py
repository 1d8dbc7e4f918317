"""SGLang's requests, options and checks, on loads small enough to follow by hand."""

from __future__ import annotations

import pytest

from simserve.errors import InputError, IntegrityError, UnknownNameError
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.sglang import SglangScheduler
from simserve.workload.request import Request, Segment
from tests.scheduler.sglang_loads import add, build, step


@pytest.mark.parametrize(
    ("page_size", "context_len", "prompt", "most", "expected"),
    [
        (1, 100, 10, 50, 50),
        (1, 40, 10, 50, 28),  # context - prompt - 2
        (1, 1000, 10, 500, 88),  # pool - prompt - page - 1 and pool - prompt - 2 are the same
        (16, 1000, 10, 500, 96 - 16 - 16 - 1),
        (16, 1000, 95, 500, 0),
    ],
)
def test_what_a_request_may_generate_is_cut(
    page_size: int, context_len: int, prompt: int, most: int, expected: int
) -> None:
    scheduler = build(page_size=page_size, context_len=context_len)
    row = add(scheduler, 0, prompt, most)
    assert row.max_new == expected
    assert row.limit == max(1, expected)


def test_prefill_beats_decode() -> None:
    scheduler = build()
    add(scheduler, 0, 5)
    assert step(scheduler).mode == "extend"
    add(scheduler, 1, 7)
    seen = step(scheduler)
    assert (seen.mode, seen.scheduled, seen.running) == ("extend", [(1, 7, 0)], [0])
    seen = step(scheduler)
    assert (seen.mode, seen.running) == ("decode", [0, 1])


def test_an_ended_request_is_in_the_tree_and_a_follower_hits_it() -> None:
    scheduler = build(page_size=4)
    add(scheduler, 0, 6, 3)
    while scheduler.sequences:
        step(scheduler)
    # 6 + 3 - 1 tokens have KV: two pages.
    assert scheduler.pool.tree.total_tokens == 8
    follower = Request(1, 0, (Segment(0, 0, 6), Segment(100, 0, 3)), 9, 1, 1, 101)
    assert scheduler.cached_prefix_tokens(follower) == 8
    access = [node.access for node in scheduler.pool.tree.nodes()]
    assert scheduler.cached_prefix_tokens(follower) == 8
    assert [node.access for node in scheduler.pool.tree.nodes()] == access
    scheduler.add(follower, 1)
    assert step(scheduler).scheduled == [(1, 1, 8)]


def test_a_request_that_is_dropped_gives_everything_back() -> None:
    scheduler = build(chunked_prefill_size=8, page_size=4)
    add(scheduler, 0, 4, 20)
    step(scheduler)
    add(scheduler, 1, 30)
    add(scheduler, 2, 30)
    step(scheduler)
    assert scheduler.chunked is scheduler.sequences[1]
    for request_id in (2, 0, 1):
        assert scheduler.abort(request_id) is not None
        scheduler.check_integrity()
    assert scheduler.abort(1) is None
    assert step(scheduler).mode == "idle"
    pool = scheduler.pool
    assert pool.free + pool.tree.evictable_tokens == pool.size


def test_a_common_plan_becomes_a_configuration() -> None:
    common = SchedulerConfig(
        num_gpu_blocks=101, block_size=4, max_num_seqs=7, max_model_len=300, policy="priority"
    )
    config = SglangScheduler(common, schedule_policy="lpm", chunked_prefill_size=None).config
    assert (config.pool_tokens, config.page_size, config.context_len) == (400, 4, 300)
    assert (config.max_running_requests, config.chunked_prefill_size) == (7, None)
    assert config.enable_priority_scheduling
    assert config.schedule_low_priority_values_first
    assert config.disable_overlap_schedule
    assert SglangScheduler(common).config.chunked_prefill_size == common.max_num_batched_tokens


def test_unknown_options_are_refused_with_the_nearest() -> None:
    common = SchedulerConfig(num_gpu_blocks=11)
    with pytest.raises(UnknownNameError, match="did you mean 'schedule_policy'"):
        SglangScheduler(common, schedule_polizy="lpm")
    with pytest.raises(InputError, match="schedule_policy 'lmp' is unknown"):
        build(schedule_policy="lmp")
    with pytest.raises(InputError, match="page_size must be at least 1"):
        build(page_size=0)
    with pytest.raises(InputError, match="retraction_policy is length or priority"):
        build(retraction_policy="oldest")


def test_integrity_sees_a_lost_token() -> None:
    scheduler = build()
    add(scheduler, 0, 5)
    step(scheduler)
    scheduler.pool.free -= 1
    with pytest.raises(IntegrityError, match="free, "):
        scheduler.check_integrity()
