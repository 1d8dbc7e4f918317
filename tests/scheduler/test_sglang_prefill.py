"""SGLang's prefill batches: chunks, mixed ones, seats, priorities, and admission by fixed lengths."""

from __future__ import annotations

import pytest

from simserve.errors import SimulationError
from simserve.scheduler.sequence import PREEMPTED
from simserve.scheduler.sglang.fixed_lengths import FreedTimes
from simserve.scheduler.sglang.row import Row
from tests.scheduler.sglang_loads import add, build, make, step


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


def test_freed_times_insert_before_the_last() -> None:
    rows = [Row(make(n, 10, most, ignore_eos=True), n, most, None) for n, most in enumerate((5, 9))]
    freed = FreedTimes(0.5, rows[0], [], [rows[1]])
    longest = Row(make(3, 10, 20, ignore_eos=True), 3, 20, None)
    freed.insert(longest)
    # SGLang puts the longest before the last: two run for 20 steps, on what is free and the 10 tokens of the
    # first to end, with a token kept for each. In order, 19 free tokens would do.
    assert not freed.suffices(2 * 20 - 10 + 2)
    assert freed.suffices(2 * 20 - 10 + 3)
