"""SGLang's rules one by one, on loads small enough to follow by hand; the golden logs prove them together."""

from __future__ import annotations

from typing import Any

import pytest

from simserve.errors import InputError, IntegrityError, SimulationError, UnknownNameError
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.sequence import FINISHED, PREEMPTED
from simserve.scheduler.sglang import SglangScheduler
from simserve.scheduler.sglang.config import SglangConfig
from simserve.scheduler.sglang.fixed_lengths import FreedTimes
from simserve.scheduler.sglang.ratio import NewTokenRatio
from simserve.scheduler.sglang.row import Row
from simserve.workload.request import Request, Segment


def build(**options: Any) -> SglangScheduler:
    defaults: dict[str, Any] = {
        "pool_tokens": 100, "context_len": 100, "max_running_requests": 4, "disable_overlap_schedule": True,
    }  # fmt: skip
    return SglangScheduler(SglangConfig(**{**defaults, **options}), observe=True)


def make(request_id: int, prompt: int, most: int = 4, **fields: Any) -> Request:
    stream = fields.pop("stream", request_id)
    output = fields.pop("output", most)
    return Request(
        request_id, 0, (Segment(stream, 0, prompt),), prompt, output, most, 100 + request_id, **fields
    )


def add(scheduler: SglangScheduler, request_id: int, prompt: int, most: int = 4, **fields: Any) -> Row:
    return scheduler.add(make(request_id, prompt, most, **fields), request_id)


def step(scheduler: SglangScheduler) -> Any:
    """One pass without overlap; returns what was decided."""
    batch = scheduler.schedule()
    if batch is not None:
        scheduler.complete()
    scheduler.check_integrity()
    return scheduler.observation


# -- requests ------------------------------------------------------------------------------------------------


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


# -- prefill -------------------------------------------------------------------------------------------------


def test_a_long_prompt_is_cut_at_a_page_and_the_rest_comes_first() -> None:
    scheduler = build(chunked_prefill_size=10, page_size=4)
    add(scheduler, 0, 15)
    add(scheduler, 1, 3)
    seen = step(scheduler)
    assert (seen.scheduled, seen.chunked, seen.waiting) == ([(0, 8, 0)], 0, [1])
    seen = step(scheduler)
    # 7 tokens of request 0 fill two pages of the ten: nothing is left for request 1 but two tokens.
    assert (seen.scheduled, seen.chunked, seen.waiting) == ([(0, 7, 8)], None, [1])
    assert step(scheduler).scheduled == [(1, 3, 0)]


def test_mixed_chunks_carry_the_decodes() -> None:
    scheduler = build(chunked_prefill_size=10, enable_mixed_chunk=True)
    add(scheduler, 0, 4, 9)
    step(scheduler)
    add(scheduler, 1, 20)
    seen = step(scheduler)
    assert (seen.mode, seen.scheduled, seen.chunked) == ("mixed", [(1, 9, 0), (0, 1, 4)], 1)
    assert seen.running == []
    seen = step(scheduler)
    assert seen.scheduled == [(1, 9, 9), (0, 1, 5)]


def test_the_engine_dies_where_a_chunk_finds_no_memory() -> None:
    """The continuing chunk is never refused: decoders of an optimistic ratio have taken its room."""
    scheduler = build(
        max_running_requests=8,
        chunked_prefill_size=8,
        enable_mixed_chunk=True,
        schedule_conservativeness=0.01,
    )
    for request_id in range(4):
        add(scheduler, request_id, 2, 20)
    step(scheduler)
    add(scheduler, 9, 60, 1)

    def run() -> None:
        for _ in range(60):
            step(scheduler)

    with pytest.raises(SimulationError, match=r"Out of memory\..*Available full tokens: 0 "):
        run()


def test_a_full_row_table_keeps_everybody_out_until_somebody_leaves() -> None:
    scheduler = build(max_running_requests=2)
    for request_id in range(3):
        add(scheduler, request_id, 3, 3 + request_id)
    seen = step(scheduler)
    assert (seen.scheduled, seen.full) == ([(0, 3, 0), (1, 3, 0)], True)
    # The flag stands in the batch that was empty; the prefill's own takes its place and finds the rows gone.
    seen = step(scheduler)
    assert (seen.mode, seen.full, seen.waiting) == ("decode", True, [2])
    step(scheduler)
    assert step(scheduler).scheduled == [(2, 3, 0)]


def test_priority_preemption_takes_the_rows_of_lower_ones() -> None:
    scheduler = build(
        max_running_requests=1, enable_priority_scheduling=True, priority_scheduling_preemption_threshold=10
    )
    add(scheduler, 0, 5, 20, priority=0)
    step(scheduler)
    add(scheduler, 1, 5, 20, priority=10)
    assert step(scheduler).mode == "decode"  # the difference must exceed the threshold
    add(scheduler, 2, 5, 20, priority=11)
    seen = step(scheduler)
    assert (seen.scheduled, seen.waiting, seen.preempted) == ([(2, 5, 0)], [1, 0], [0])
    assert seen.retracted == []
    assert scheduler.sequences[0].status == PREEMPTED


# -- decode --------------------------------------------------------------------------------------------------


def test_retraction_takes_the_shortest_output_and_sets_the_ratio() -> None:
    scheduler = build(pool_tokens=40, schedule_conservativeness=0.01)
    add(scheduler, 0, 6, 25)
    step(scheduler)
    step(scheduler)
    add(scheduler, 1, 6, 16)
    seen = None
    while not seen or not seen.retracted:
        seen = step(scheduler)
    assert seen.retracted == [1]
    assert (seen.running, seen.waiting) == ([0], [1])
    row = scheduler.sequences[0]
    generated = scheduler.decoders.generated(row)
    # The pass itself has given it another token since.
    assert scheduler.ratio.current == min(1.0, (generated - 1 + 20) / (25 + 1))
    retracted = scheduler.sequences[1]
    assert retracted.preemptions == 1
    assert retracted.outputs > 0
    assert (retracted.committed, retracted.protected) == (0, 0)


def test_a_single_decoder_that_finds_no_memory_is_aborted() -> None:
    scheduler = build(pool_tokens=40, chunked_prefill_size=16, schedule_conservativeness=0.01)
    add(scheduler, 0, 4, 30)
    step(scheduler)
    row = scheduler.sequences[0]
    scheduler.pool.free = 0  # as if a chunk held the rest
    scheduler.schedule()
    ((failed, reason),) = scheduler.failed
    assert failed is row
    assert "out of memory" in reason
    assert row.status == FINISHED
    assert not scheduler.sequences
    assert scheduler.ratio.current == scheduler.ratio.init  # nothing is left: it starts again


def test_overlap_foresees_an_end_by_length_but_not_by_eos() -> None:
    for output, decodes in ((4, 3), (3, 3)):  # of at most 4
        scheduler = build(disable_overlap_schedule=False)
        add(scheduler, 0, 5, 4, output=output)
        batches = 0
        flying: list[Any] = [scheduler.schedule()]
        while any(flying):
            flying.append(scheduler.schedule())
            batches += flying[-1] is not None
            if flying.pop(0) is not None:
                scheduler.complete()
            scheduler.check_integrity()
        assert batches == decodes
        # By EOS the token after it was decoded in vain, so the EOS has KV and stays in the tree.
        assert scheduler.pool.tree.total_tokens == 5 + 3


def test_the_ratio_falls_and_starts_again_when_idle() -> None:
    scheduler = build()
    add(scheduler, 0, 5, 10)
    for _ in range(4):
        step(scheduler)
    assert scheduler.ratio.current < 0.7
    while scheduler.sequences:
        step(scheduler)
    step(scheduler)
    assert scheduler.ratio.current == 0.7


def test_the_ratio_falls_as_often_as_it_is_told() -> None:
    one, many = NewTokenRatio(0.3), NewTokenRatio(0.3)
    for _ in range(700):
        one.decay()
    many.decay(700)
    assert one.current == many.current == many.minimum


# -- orders --------------------------------------------------------------------------------------------------


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


# -- fixed lengths -------------------------------------------------------------------------------------------


def test_freed_times_insert_before_the_last() -> None:
    rows = [Row(make(n, 10, most, ignore_eos=True), n, most, None) for n, most in enumerate((5, 9))]
    freed = FreedTimes(0.5, rows[0], [], [rows[1]])
    longest = Row(make(3, 10, 20, ignore_eos=True), 3, 20, None)
    freed.insert(longest)
    # SGLang puts the longest before the last: two run for 20 steps, on what is free and the 10 tokens of the
    # first to end, with a token kept for each. In order, 19 free tokens would do.
    assert not freed.suffices(2 * 20 - 10 + 2)
    assert freed.suffices(2 * 20 - 10 + 3)


# -- options -------------------------------------------------------------------------------------------------


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


# -- stretches -----------------------------------------------------------------------------------------------


def test_a_stretch_reaches_to_the_next_end() -> None:
    scheduler = SglangScheduler(SglangConfig(pool_tokens=100, context_len=100, disable_overlap_schedule=True))
    add(scheduler, 0, 5, 10)
    add(scheduler, 1, 5, 20)
    for _ in range(2):
        scheduler.schedule()
        assert scheduler.horizon() == (0 if scheduler.steps == 1 else 8)
        scheduler.complete()
    assert scheduler.horizon(1) == 7
    forecast = scheduler.forecast(8)
    assert forecast.cohorts == [(2, 5 + 5 + 2 * 2)]
    assert scheduler.advance(7, 1) == (14, 28)
    assert [row.id for row in scheduler.complete()] == [0]


def test_no_stretch_while_somebody_may_join() -> None:
    scheduler = SglangScheduler(
        SglangConfig(pool_tokens=100, context_len=100, max_running_requests=1, disable_overlap_schedule=True)
    )
    add(scheduler, 0, 5, 10)
    scheduler.schedule()
    scheduler.complete()
    scheduler.schedule()
    add(scheduler, 1, 5, 10)
    assert scheduler.horizon() == 0
    scheduler.complete()
    scheduler.schedule()
    assert scheduler.batch.full
    assert scheduler.horizon() > 0
