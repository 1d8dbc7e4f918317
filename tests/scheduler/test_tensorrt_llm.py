"""TensorRT-LLM's rules, counted by hand: blocks of 4 tokens, 16 of them unless a test says otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from simserve.errors import InputError
from simserve.scheduler.context_chunks import cut_equally, cut_in_order
from simserve.testing.script import Script
from simserve.workload.request import Segment

MAX_UTILIZATION = {"capacity_scheduler_policy": "MAX_UTILIZATION"}


def script(**options: Any) -> Script:
    defaults = {"num_gpu_blocks": 17, "max_num_batched_tokens": 32}
    return Script("tensorrt-llm", **{**defaults, **options})


def waiting(run: Script) -> list[int]:
    return [sequence.id for sequence in run.scheduler.waiting]


def test_a_request_starts_only_with_room_for_its_longest_output() -> None:
    run = script(num_gpu_blocks=13)
    first = run.add(8, 4, max_tokens=24)  # 8 of 12 blocks in the end, 2 now
    second = run.add(8, 2, max_tokens=12)  # 5 in the end
    assert run.step() == {first: 8}
    assert run.scheduler.pool.num_free == 10, "free blocks there are, but they are promised"
    for _ in range(3):
        assert run.step() == {first: 1}
    assert run.step() == {second: 8}
    assert run.finished == [first]


def test_nobody_overtakes_a_head_that_does_not_fit() -> None:
    run = script(num_gpu_blocks=13)
    first, second, third = run.add(8, 24), run.add(8, 24), run.add(2, 1)
    assert run.step() == {first: 8}
    assert waiting(run) == [second, third]


def test_guaranteed_no_evict_never_preempts_where_max_utilization_does() -> None:
    def count_preempted(run: Script) -> int:
        requests = [run.add(8, 30) for _ in range(3)]
        total = 0
        while run.scheduler.sequences:
            run.step()
            total += len(run.preempted)
        assert sorted(run.finished) == requests
        return total

    assert count_preempted(script()) == 0
    assert count_preempted(script(**MAX_UTILIZATION)) > 0


def test_max_utilization_pauses_the_latest_started_and_computes_it_again() -> None:
    run = script(num_gpu_blocks=9, **MAX_UTILIZATION)
    first, second = run.add(15, 9), run.add(15, 9)
    assert run.step() == {first: 15, second: 15}
    assert run.step() == {first: 1, second: 1}
    # Eight blocks are full; the next token of the first wants a ninth.
    assert run.step() == {first: 1}
    assert run.preempted == [second]
    for _ in range(6):
        assert run.step() == {first: 1}, "the second would need five blocks and three are free"
    assert run.step() == {second: 17}
    assert run.finished == [first]


def test_a_paused_request_keeps_its_place_and_later_ones_make_room_for_it() -> None:
    run = script(num_gpu_blocks=9, max_num_seqs=2, **MAX_UTILIZATION)
    first, second = run.add(15, 9), run.add(15, 9)
    run.step()
    third = run.add(2, 20)
    run.step()
    assert run.step() == {first: 1}
    # The third could use the free seat and blocks, but the second is before it.
    assert waiting(run) == [second, third]
    assert run.step() == {first: 1}


def test_prompts_are_cut_at_blocks_and_share_what_decodes_leave() -> None:
    run = script(num_gpu_blocks=65, max_num_batched_tokens=16)
    first = run.add(6, 9)
    assert run.step() == {first: 6}
    second, third = run.add(40, 2), run.add(3, 2)
    # 15 tokens are left: 12 of them are whole blocks, and the third still fits whole.
    assert run.step() == {first: 1, second: 12, third: 3}
    assert run.step() == {first: 1, third: 1, second: 12}


def test_equal_progress_gives_each_prompt_a_block_in_turn() -> None:
    run = script(num_gpu_blocks=65, max_num_batched_tokens=16, context_chunking_policy="EQUAL_PROGRESS")
    first, second = run.add(40, 2), run.add(7, 2)
    assert run.step() == {first: 8, second: 7}


def test_whole_prompts_wait_for_a_step_that_holds_them() -> None:
    run = script(num_gpu_blocks=65, enable_chunked_prefill=False, max_num_batched_tokens=64)
    first, second = run.add(40, 3), run.add(30, 3)
    assert run.step() == {first: 40}
    assert run.step() == {first: 1, second: 30}


def test_a_request_waits_to_hit_what_another_one_computes() -> None:
    run = script(num_gpu_blocks=65, enable_prefix_caching=True)
    shared = Segment(7, 0, 12)
    first = run.add(14, 3, prompt=(shared, Segment(8, 0, 2)), shared_tokens=12)
    second = run.add(15, 3, prompt=(shared, Segment(9, 0, 3)), shared_tokens=12)
    third = run.add(5, 3)
    assert run.step() == {first: 14, third: 5}, "the second waits, the third does not"
    assert run.step() == {first: 1, third: 1, second: 3}


@pytest.mark.parametrize(
    ("left", "budget", "in_order", "equally"),
    [
        ([10, 20, 3], 100, [10, 20, 3], [10, 20, 3]),
        ([10, 20, 3], 17, [10, 4, 3], [10, 4, 3]),
        ([20, 20], 7, [4, 0], [4, 0]),
        ([20, 20], 16, [16, 0], [8, 8]),
        ([3, 20], 3, [3, 0], [3, 0]),
    ],
)
def test_chunks(left: list[int], budget: int, in_order: list[int], equally: list[int]) -> None:
    assert cut_in_order(left, budget, 4) == in_order
    assert cut_equally(left, budget, 4) == equally


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"capacity_scheduler_policy": "MAX_UTILISATION"}, "did you mean 'MAX_UTILIZATION'"),
        ({"context_chunking_policy": "FCFS"}, "context_chunking_policy"),
        ({"max_num_batched_tokens": 3}, "enable_chunked_prefill: false"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        script(**options)
