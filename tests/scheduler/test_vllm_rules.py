"""vLLM's rules one by one, on loads small enough to follow by hand; the golden logs prove them together."""

from __future__ import annotations

from typing import Any

import pytest

from simserve.errors import InputError
from simserve.scheduler.batch import Batch
from simserve.scheduler.config import SchedulerConfig, Speculation
from simserve.scheduler.vllm import VllmScheduler
from simserve.workload.request import Request, Segment


def build(**options: Any) -> VllmScheduler:
    defaults: dict[str, Any] = {
        "num_gpu_blocks": 20,
        "block_size": 4,
        "max_num_seqs": 4,
        "max_num_batched_tokens": 16,
        "max_model_len": 64,
    }
    return VllmScheduler(SchedulerConfig(**{**defaults, **options}), observe=True)


def add(scheduler: VllmScheduler, request_id: int, prompt: int, output: int = 4, **fields: Any) -> None:
    stream = fields.pop("stream", request_id)
    request = Request(
        request_id, 0, (Segment(stream, 0, prompt),), prompt, output, output, 100 + request_id,
        shared_tokens=prompt + output, **fields,
    )  # fmt: skip
    scheduler.add(request, float(request_id))


def step(scheduler: VllmScheduler) -> dict[int, int]:
    """One schedule and its update; returns tokens scheduled by request id."""
    batch = scheduler.schedule()
    assert batch is not None
    scheduled = {request_id: tokens for request_id, tokens, _ in batch.observed.scheduled}
    scheduler.complete(batch)
    scheduler.check_integrity()
    return scheduled


def test_prompts_are_chunked_to_the_budget_and_decodes_come_first() -> None:
    scheduler = build()
    add(scheduler, 0, 10)
    add(scheduler, 1, 20)
    assert step(scheduler) == {0: 10, 1: 6}
    assert step(scheduler) == {0: 1, 1: 14}
    assert step(scheduler) == {0: 1, 1: 1}


def test_without_chunked_prefill_the_head_waits_for_the_whole_budget() -> None:
    scheduler = build(enable_chunked_prefill=False)
    add(scheduler, 0, 10)
    add(scheduler, 1, 12)
    assert step(scheduler) == {0: 10}
    assert step(scheduler) == {0: 1, 1: 12}


def test_long_prefill_threshold_leaves_room_for_others() -> None:
    scheduler = build(long_prefill_token_threshold=4)
    add(scheduler, 0, 12)
    add(scheduler, 1, 3)
    assert step(scheduler) == {0: 4, 1: 3}


def test_a_second_request_hits_what_the_first_publishes_in_the_same_step() -> None:
    scheduler = build()
    add(scheduler, 0, 8, stream=5)
    add(scheduler, 1, 8, stream=5)
    # Two blocks are equal; at least one token is computed, so only the first is hit.
    assert step(scheduler) == {0: 8, 1: 4}


def test_the_last_in_is_preempted_and_comes_back_first() -> None:
    scheduler = build(num_gpu_blocks=5, max_model_len=16)
    add(scheduler, 0, 7, output=8)
    add(scheduler, 1, 7, output=8)
    add(scheduler, 2, 3)
    assert step(scheduler) == {0: 7, 1: 7}
    assert step(scheduler) == {0: 1, 1: 1}
    assert step(scheduler) == {0: 1}
    assert [sequence.id for sequence in scheduler.preempted] == [1]
    assert [sequence.id for sequence in scheduler.waiting] == [1, 2]


def test_the_gate_keeps_a_prompt_out_that_does_not_fit_whole() -> None:
    held: dict[bool, dict[int, int]] = {}
    for gate in (True, False):
        scheduler = build(num_gpu_blocks=8, max_num_batched_tokens=12, scheduler_reserve_full_isl=gate)
        add(scheduler, 0, 8, output=2)
        add(scheduler, 1, 24)
        held[gate] = step(scheduler)
    assert held == {True: {0: 8}, False: {0: 8, 1: 4}}


def test_priorities_decide_who_is_admitted() -> None:
    scheduler = build(policy="priority", max_num_seqs=1)
    add(scheduler, 0, 4, priority=5)
    add(scheduler, 1, 4, priority=1)
    assert step(scheduler) == {1: 4}


def test_asynchronous_scheduling_runs_a_step_ahead() -> None:
    scheduler = build(async_scheduling=True)
    add(scheduler, 0, 4, output=3)
    first = scheduler.schedule()
    second = scheduler.schedule()
    assert isinstance(first, Batch)
    assert isinstance(second, Batch)
    assert second.observed.scheduled == [(0, 1, 4)]
    scheduler.complete(first)
    assert scheduler.schedule() is not None
    scheduler.complete(second)
    assert scheduler.schedule() is None  # its last token is in flight: nothing more to schedule


def test_drafts_are_verified_and_the_rejected_ones_computed_again() -> None:
    speculation = Speculation("ngram", 3, lambda request_id, step, drafts: 1)
    scheduler = build(speculative=speculation)
    add(scheduler, 0, 4, output=12)
    assert step(scheduler) == {0: 4}
    assert step(scheduler) == {0: 4}
    sequence = scheduler.running[0]
    assert (sequence.outputs, sequence.computed) == (3, 6)


def test_abort_frees_blocks_at_once() -> None:
    scheduler = build()
    add(scheduler, 0, 8)
    scheduler.schedule()
    scheduler.abort(0)
    assert scheduler.pool.num_free == 19
    assert not scheduler.has_unfinished


@pytest.mark.parametrize("options", [{"policy": "lifo"}, {"block_size": 0}, {"max_num_seqs": 0}])
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        build(**options)
