"""FastServe's rules, counted by hand: a step lasts 10 ms, blocks of 4 tokens and 10 bytes."""

from __future__ import annotations

from typing import Any

import pytest

from simserve.errors import InputError
from simserve.scheduler.batch import FROM_HOST, TO_HOST
from simserve.scheduler.feedback_queue import Job, join_level
from simserve.testing.script import Script

GIB = 2**30
PROFILE = ((1, 0.001), (65, 0.065))


class Steps:
    """A script whose steps last 10 ms each."""

    def __init__(self, **options: Any) -> None:
        defaults = {
            "num_gpu_blocks": 65,
            "max_num_seqs": 2,
            "max_num_batched_tokens": 64,
            "enable_chunked_prefill": False,
            "prefill_profile": PROFILE,
            "block_bytes": 10,
            "block_copies": 2,
            "base_quantum_s": 0.02,
            "swap_space": 1000 / GIB,
        }
        self.script = Script("fastserve", **{**defaults, **options})
        self.now_s = 0.0

    def add(self, prompt_tokens: int, output_tokens: int) -> int:
        return self.script.add(prompt_tokens, output_tokens, at_s=self.now_s)

    def step(self) -> dict[int, int]:
        ran = self.script.step(self.now_s)
        self.now_s += 0.01
        return ran

    def run(self) -> list[dict[int, int]]:
        steps = []
        while self.script.scheduler.sequences:
            steps.append(self.step())
        return steps

    def level(self, request_id: int) -> int:
        level: int = self.script.scheduler._jobs[request_id].level
        return level

    def moves(self) -> list[tuple[int, int, bool]]:
        batch = self.script.batch
        assert batch is not None
        return [(each.path, each.size_bytes, each.awaited) for each in batch.transfers or ()]


@pytest.mark.parametrize(("tokens", "level"), [(1, 0), (20, 0), (21, 1), (40, 1), (41, 2), (65, 2), (90, 3)])
def test_a_request_joins_the_level_whose_quantum_covers_its_prompt(tokens: int, level: int) -> None:
    assert join_level(PROFILE, tokens, 20_000_000) == level


def test_a_job_sinks_where_its_quantum_ends_however_seldom_one_counts() -> None:
    often, once = Job(0, 0), Job(0, 0)
    for now_ns in range(0, 1000, 7):
        often.serve(now_ns, 100)
    once.serve(994, 100)
    # Quanta of 100, 200 and 400 end at 100, 300 and 700.
    for job in (often, once):
        assert (job.level, job.joined_ns, job.served_ns) == (3, 700, 294)


def test_a_short_request_overtakes_those_that_have_run_longer() -> None:
    run = Steps(max_num_seqs=1)
    first = run.add(4, 20)
    assert [run.step() for _ in range(3)] == [{first: 4}, {first: 1}, {first: 1}]
    second = run.add(4, 3)
    # The first has used up its 20 ms and is on level 1.
    assert run.step() == {second: 4}
    assert run.script.preempted == [first]
    assert run.script.scheduler.pool.num_free == 65 - 1 - 2 - 1, "it keeps its blocks"
    assert [run.step() for _ in range(2)] == [{second: 1}] * 2
    assert run.step() == {first: 1}, "and goes on where it was"
    run.run()
    assert run.script.finished == [second, first]


def test_a_long_prompt_skips_levels_and_lets_short_ones_pass() -> None:
    run = Steps(max_num_seqs=1)
    long = run.add(60, 2)
    short = run.add(4, 2)
    assert (run.level(long), run.level(short)) == (2, 0)
    assert run.step() == {short: 4}
    assert run.step() == {short: 1}
    assert run.step() == {long: 60}


def test_who_has_waited_too_long_is_promoted() -> None:
    run = Steps(max_num_seqs=1, starvation_threshold_s=0.05, starvation_period_steps=2)
    starving = run.add(60, 2)
    for _ in range(5):
        run.add(4, 1)
        assert starving not in run.step()
    run.add(4, 1)
    assert run.level(starving) == 2
    assert starving not in run.step(), "the queues are searched in every second step"
    run.add(4, 1)
    assert run.step() == {starving: 60}
    assert run.level(starving) == 0


def test_the_lowest_ranks_move_to_the_host_before_memory_is_full_and_come_back_early() -> None:
    run = Steps(num_gpu_blocks=14)  # 13 blocks, of which 2 are kept free
    first, second = run.add(15, 12), run.add(15, 12)  # four blocks each
    for _ in range(3):
        run.step()
    third = run.add(12, 2)
    assert run.step() == {third: 12, first: 1}
    # 13 - 5 - 5 - 3 = 0 blocks would be free: the second, pushed out, goes to the host beside the step.
    assert run.script.preempted == [second]
    assert run.moves() == [(TO_HOST, 50, False)]
    assert run.step() == {third: 1, first: 1}
    assert run.script.finished == [third]
    assert run.step() == {first: 1, second: 1}
    assert run.moves() == [(FROM_HOST, 50, True)]


def test_without_proactive_offloading_blocks_move_when_they_lack() -> None:
    run = Steps(num_gpu_blocks=14, proactive_offloading=False)
    first, second = run.add(15, 12), run.add(15, 12)
    for _ in range(3):
        run.step()
    third = run.add(12, 2)
    assert run.step() == {third: 12, first: 1}
    assert run.moves() == [], "no block is left, and none is needed"
    assert run.step() == {third: 1, first: 1}
    assert run.moves() == [(TO_HOST, 50, True)]
    assert run.step() == {first: 1, second: 1}
    assert run.moves() == [(FROM_HOST, 50, True)]


def test_those_next_in_rank_are_fetched_beside_the_step() -> None:
    run = Steps(num_gpu_blocks=14, max_num_seqs=1, base_quantum_s=0.03)
    first = run.add(15, 12)
    for _ in range(4):
        run.step()
    second = run.add(30, 2)  # eight blocks, and the first has five of the thirteen
    assert run.step() == {second: 30}
    assert run.moves() == [(TO_HOST, 50, False)]
    third = run.add(4, 2)
    assert run.step() == {second: 1}
    assert run.moves() == [], "there is no room to bring it back"
    assert run.step() == {third: 4}
    assert run.moves() == [(FROM_HOST, 50, False)]
    assert run.step() == {third: 1}
    assert run.step() == {first: 1}
    assert run.moves() == [(FROM_HOST, 0, True)], "it waits for what may still be on its way"


def test_without_room_on_the_host_a_victim_is_computed_again() -> None:
    run = Steps(num_gpu_blocks=14, swap_space=40 / GIB)
    first, second = run.add(15, 12), run.add(15, 12)
    for _ in range(3):
        run.step()
    third = run.add(12, 2)
    run.step()
    assert run.moves() == []
    assert run.script.scheduler.sequences[second].computed == 0
    run.run()
    assert sorted(run.script.finished) == [first, second, third]


def test_no_prompt_begins_while_the_host_is_nearly_full() -> None:
    run = Steps(num_gpu_blocks=14, swap_space=50 / GIB)  # five blocks, which the second will fill
    first, second = run.add(15, 12), run.add(15, 12)
    for _ in range(3):
        run.step()
    third = run.add(12, 2)
    assert run.step() == {third: 12, first: 1}
    assert run.script.scheduler.host_free == 0
    fourth = run.add(4, 2)
    assert fourth not in run.step()
    run.run()
    assert sorted(run.script.finished) == [first, second, third, fourth]


def test_a_cancelled_request_leaves_nothing_behind() -> None:
    run = Steps(num_gpu_blocks=14)
    first, second = run.add(15, 12), run.add(15, 12)
    for _ in range(3):
        run.step()
    run.add(12, 8)
    run.step()
    run.script.abort(second)
    run.script.abort(first)
    assert run.script.scheduler.host_free == run.script.scheduler.host_blocks
    run.run()
    assert run.script.scheduler.pool.num_free == 13


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"swap_space": 0}, "expected a larger swap_space"),
        ({"base_quantum_s": 0}, "above 0"),
        ({"starvation_period_steps": 0}, "above 0"),
        ({"swap_spce": 4}, "did you mean 'swap_space'"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Steps(**options)
