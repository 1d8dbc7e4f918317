"""Ranks in lock-step: dummies, the slowest rank's time, waves, and the extra step of an idle rank."""

from __future__ import annotations

from typing import Any

import pytest
from simpy import Environment, Event

from simserve import registry
from simserve.cost.lockstep import SlowestRank
from simserve.cost.simple import LinearTimer
from simserve.engine.lockstep import LockstepGroup
from simserve.engine.lockstep_clock import LockstepClock
from simserve.engine.loop import EngineLoop
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.sequence import Sequence
from simserve.workload.request import Request

MS = 1_000_000


class Bench:
    """Ranks whose steps take 1 ms and 10 us a prompt token, and what they report."""

    def __init__(
        self,
        ranks: int = 2,
        *,
        kind: str = "vllm",
        stages: int = 1,
        jump: bool = True,
        reports_early: bool = False,
        own: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.env = Environment(0)
        config = SchedulerConfig(
            **{"num_gpu_blocks": 101, "max_model_len": 512, "pipeline_parallel_size": stages, **options}
        )
        build = registry.lookup("engine", kind)
        self.ends: dict[int, tuple[int, str]] = {}
        self.told: list[tuple[int, ...]] = []
        self.group = LockstepGroup(
            self.env,
            0,
            [build(config, jump=jump, **(own or {})) for _ in range(ranks)],
            LockstepClock([SlowestRank(LinearTimer(1e-3, 1e-5))] * stages, serial=config.async_scheduling),
            self._ended,
            lambda *told: self.told.append(told),
            reports_early=reports_early,
            jump=jump,
            check=True,
        )
        self.traces: list[list[tuple[int, ...]]] = []
        for rank in self.group.ranks:
            rank.trace = []
            self.traces.append(rank.trace)  # type: ignore[arg-type]

    def _ended(self, engine: EngineLoop, sequence: Sequence, now: int, reason: str) -> None:
        self.ends[sequence.request.id] = (now, reason)

    def submit(self, rank: int, request_id: int, prompt: int, output: int, at_ns: int = 0) -> None:
        request = Request(request_id, at_ns, (), prompt, output, output, request_id)

        def submit(_: Event) -> None:
            self.group.ranks[rank].submit(request, None)

        event = self.env.timeout(at_ns)
        assert event.callbacks is not None
        event.callbacks.append(submit)

    def run(self) -> dict[int, tuple[int, str]]:
        self.env.run()
        for rank in self.group.ranks:
            rank.close()
        return self.ends

    def tokens(self, rank: int) -> list[int]:
        """Tokens of each step of a rank."""
        return [decodes + prefill for _, _, decodes, prefill, *_ in self.traces[rank]]


@pytest.mark.parametrize("jump", [True, False])
@pytest.mark.parametrize("is_async", [True, False])
def test_a_rank_with_a_request_makes_the_others_run_dummies(jump: bool, is_async: bool) -> None:
    bench = Bench(3, jump=jump, async_scheduling=is_async)
    bench.submit(1, 0, 100, 40)
    # A prefill of 100 tokens, then 39 steps that only decode.
    assert bench.run() == {0: (2 * MS + 39 * MS, "")}
    assert bench.tokens(1)[:41] == [100] + [1] * 39 + [0]
    assert bench.tokens(0) == bench.tokens(2) == [0] * len(bench.tokens(1))
    ends = [list(rank.log.end_ns) for rank in bench.group.ranks]
    assert ends[0] == ends[1] == ends[2]
    # The ranks look for an end of the wave in every 32nd step only.
    assert len(ends[0]) == 64


@pytest.mark.parametrize("jump", [True, False])
def test_a_step_lasts_as_long_as_the_slowest_rank(jump: bool) -> None:
    bench = Bench(jump=jump, async_scheduling=False)
    bench.submit(0, 0, 200, 3)
    bench.submit(1, 1, 50, 3)
    # 3 ms for both prefills together, not 1.5 for the short one.
    assert bench.run() == {0: (5 * MS, ""), 1: (5 * MS, "")}


def test_a_wave_ends_and_the_next_begins_at_once() -> None:
    bench = Bench(async_scheduling=False)
    bench.submit(0, 0, 100, 1)
    bench.submit(0, 1, 100, 1, at_ns=500 * MS)
    ends = bench.run()
    # 32 steps, of which 31 are dummies; then nothing; the second request waits for nobody.
    assert ends == {0: (2 * MS, ""), 1: (502 * MS, "")}
    log = bench.group.ranks[1].log
    assert list(log.end_ns)[31:33] == [33 * MS, 502 * MS]
    # Dummies of two waves are two rows: between them the rank did not run.
    assert (list(log.first_step), list(log.start_ns)) == ([0, 32], [0, 500 * MS])


@pytest.mark.parametrize(("is_async", "steps"), [(False, 1), (True, 2)])
def test_an_idle_rank_takes_a_request_a_step_later_than_a_busy_one(is_async: bool, steps: int) -> None:
    first = {}
    for rank in (0, 1):
        bench = Bench(async_scheduling=is_async)
        bench.submit(0, 0, 100, 200)
        bench.submit(rank, 1, 100, 1, at_ns=10 * MS + MS // 2)
        bench.run()
        first[rank] = bench.tokens(rank).index(101 if rank == 0 else 100, 1)
    # Step 9 runs from 10 to 11 ms; at its end a busy rank decides the next step, or the one after that.
    assert first == {0: 9 + steps, 1: 9 + steps + 1}


def test_a_rank_that_has_just_finished_takes_the_next_request_as_a_busy_one() -> None:
    bench = Bench(async_scheduling=False)
    bench.submit(0, 0, 100, 200)
    bench.submit(1, 1, 100, 10)
    # While the tenth step runs, from 10 to 11 ms, with the last token of request 1.
    bench.submit(1, 2, 100, 1, at_ns=10 * MS + MS // 2)
    bench.run()
    assert bench.tokens(1)[9:11] == [1, 100]


def test_ranks_tell_of_their_load_after_a_step_when_it_has_changed() -> None:
    bench = Bench(async_scheduling=False)
    bench.submit(0, 0, 100, 5)
    bench.run()
    # (rank, waiting, running, wave, step, time): running after the first step, gone after the last.
    assert bench.told == [(0, 0, 1, 0, 1, 2 * MS), (0, 0, 0, 0, 5, 6 * MS)]


def test_newer_ranks_tell_of_what_waits_before_a_step_too() -> None:
    bench = Bench(async_scheduling=False, reports_early=True)
    bench.submit(0, 0, 100, 5)
    bench.run()
    assert bench.told[0] == (0, 1, 0, 0, 0, 0)
    assert bench.told[1:] == [(0, 0, 1, 0, 1, 2 * MS), (0, 0, 0, 0, 5, 6 * MS)]


@pytest.mark.parametrize("is_async", [True, False])
def test_stretches_are_jumped_over_with_the_same_steps(is_async: bool) -> None:
    runs = []
    for jump in (True, False):
        bench = Bench(jump=jump, async_scheduling=is_async)
        bench.submit(0, 0, 100, 300)
        bench.submit(1, 1, 30, 150, at_ns=5 * MS)
        bench.submit(1, 2, 30, 20, at_ns=100 * MS + 1)
        runs.append((bench.run(), bench.traces, [rank.log for rank in bench.group.ranks]))
        assert (bench.group.stretch_steps > 200) == jump
    assert runs[0] == runs[1]


def test_what_fits_nowhere_is_given_up_and_the_wave_ends() -> None:
    bench = Bench(num_gpu_blocks=4, async_scheduling=False)
    bench.submit(0, 0, 200, 5)
    ends = bench.run()
    assert "do not fit into the KV pool" in ends[0][1]
    assert bench.group.ranks[0].outstanding == 0


# -- kinds that wait for the time --------------------------------------------------------------------------


class Collecting(Bench):
    """Ranks that collect batches of three prompts of 10 tokens, for 50 ms at most."""

    def __init__(self, **options: Any) -> None:
        super().__init__(kind="static", own={"max_wait_s": 0.05}, **{"max_num_seqs": 3, **options})


@pytest.mark.parametrize("jump", [True, False])
def test_ranks_rest_while_a_batch_is_collected(jump: bool) -> None:
    bench = Collecting(jump=jump)
    bench.submit(0, 0, 10, 5, at_ns=7 * MS)
    bench.submit(0, 1, 10, 3, at_ns=20 * MS)
    bench.submit(1, 2, 10, 2, at_ns=57 * MS)  # comes when the wave begins, and waits on its own rank
    # A prefill of two prompts from 57 ms on, then four tokens; its own 50 ms later the other rank's batch.
    prefill, alone = MS + 20 * MS // 100, MS + 10 * MS // 100
    begin = bench.run()[0][0] - prefill - 4 * MS
    assert begin == 57 * MS
    assert bench.ends[1] == bench.ends[0]
    # The wave of the first batch has ended by then: its 32 steps took 32.2 ms.
    assert bench.ends[2] == (107 * MS + alone + MS, "")
    assert bench.group.ranks[0].log.start_ns[0] == 57 * MS


@pytest.mark.parametrize("jump", [True, False])
def test_a_batch_that_is_due_begins_with_the_next_step_of_the_others(jump: bool) -> None:
    bench = Collecting(jump=jump)
    for request_id in range(3):
        bench.submit(0, request_id, 10, 100)  # a full batch begins at once: 1.3 ms, then steps of 1 ms
    bench.submit(1, 3, 10, 20, at_ns=10 * MS)
    ends = bench.run()
    first = MS + 30 * MS // 100
    # Due at 60 ms, while a step runs; it joins the step that begins at 60.3 ms.
    begins = first + 59 * MS
    assert ends[3] == (begins + MS + 10 * MS // 100 + 19 * MS, "")
    assert ends[0] == (first + 99 * MS + 10 * MS // 100, "")
    assert (bench.group.stretch_steps > 60) == jump


def test_the_request_that_fills_a_batch_wakes_resting_ranks() -> None:
    bench = Collecting()
    for request_id in range(3):
        bench.submit(1, request_id, 10, 1, at_ns=request_id * MS)
    assert bench.run() == dict.fromkeys(range(3), (2 * MS + MS + 30 * MS // 100, ""))


def test_who_gives_up_while_a_batch_is_collected_is_waited_for_no_more() -> None:
    bench = Collecting()
    bench.submit(0, 0, 10, 5)
    event = bench.env.timeout(20 * MS)
    assert event.callbacks is not None
    event.callbacks.append(lambda _: bench.group.ranks[0].cancel(0, "timeout"))
    assert bench.run() == {0: (20 * MS, "timeout")}
    assert len(bench.group.ranks[0].log.end_ns) == 0


def test_a_batch_that_is_due_and_fits_nowhere_is_given_up() -> None:
    bench = Collecting(num_gpu_blocks=4)
    bench.submit(0, 0, 200, 5)
    assert "do not fit into the KV pool" in bench.run()[0][1]


@pytest.mark.parametrize("jump", [True, False])
def test_batches_of_a_pipeline_run_to_their_last_token(jump: bool) -> None:
    """Between two steps of a batch a rank runs a dummy, which is no step of the batch."""
    bench = Collecting(jump=jump, stages=2)
    bench.submit(0, 0, 10, 6)
    bench.submit(0, 1, 10, 4)
    bench.run()
    decodes = [decodes for _, _, decodes, *_ in bench.traces[0]]
    assert [each for each in decodes if each] == [2] * 5
    assert bench.ends[0] == bench.ends[1]


@pytest.mark.parametrize("jump", [True, False])
def test_a_cancelled_request_leaves_its_rank_idle(jump: bool) -> None:
    bench = Bench(jump=jump, async_scheduling=True)
    bench.submit(0, 0, 100, 300)
    event = bench.env.timeout(50 * MS + 1)
    assert event.callbacks is not None
    event.callbacks.append(lambda _: bench.group.ranks[0].cancel(0, "timeout"))
    # Dropped at the next end of a step.
    assert bench.run() == {0: (51 * MS, "timeout")}
