"""One engine on the clock: asynchronous scheduling, pipelines, stretches, requests that can never run."""

from __future__ import annotations

from typing import Any

import pytest
from simpy import Environment

from simserve.cost.simple import ConstantTimer
from simserve.engine.clock import StageClock
from simserve.engine.instance import Instance
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.sequence import Sequence
from simserve.scheduler.vllm import VllmScheduler
from simserve.workload.request import Request

STEP_NS = 1_000_000


class Bench:
    """One instance with steps of 1 ms, and what it reports."""

    def __init__(self, *, stages: int = 1, jump: bool = True, host_ns: int = 0, **options: Any) -> None:
        self.env = Environment(0)
        config = SchedulerConfig(
            **{"num_gpu_blocks": 101, "max_model_len": 512, "pipeline_parallel_size": stages, **options}
        )
        timers = [ConstantTimer(STEP_NS / 1e9)] * stages
        clock = StageClock(timers, host_ns=host_ns, serial=config.async_scheduling)
        self.ends: dict[int, tuple[int, str]] = {}
        self.instance = Instance(
            self.env, 0, VllmScheduler(config, jump=jump), clock, self._ended, jump=jump, check=True
        )

    def _ended(self, instance: Instance, sequence: Sequence, now: int, reason: str) -> None:
        self.ends[sequence.request.id] = (now, reason)

    def submit(self, request_id: int, prompt: int, output: int, at_ns: int = 0) -> None:
        request = Request(request_id, at_ns, (), prompt, output, output, request_id)
        event = self.env.timeout(at_ns)
        assert event.callbacks is not None
        event.callbacks.append(lambda _: self.instance.submit(request, None))

    def run(self) -> dict[int, tuple[int, str]]:
        self.env.run()
        self.instance.close()
        return self.ends


@pytest.mark.parametrize("jump", [True, False])
@pytest.mark.parametrize("is_async", [True, False])
def test_one_request_takes_a_step_a_token(jump: bool, is_async: bool) -> None:
    bench = Bench(jump=jump, async_scheduling=is_async)
    bench.submit(0, 40, 25)
    assert bench.run() == {0: (25 * STEP_NS, "")}
    assert list(bench.instance.log.end_ns) == [STEP_NS * (i + 1) for i in range(25)]


def test_async_scheduling_takes_an_arrival_one_step_later() -> None:
    ends = {}
    for is_async in (False, True):
        bench = Bench(async_scheduling=is_async)
        bench.submit(0, 16, 100)
        bench.submit(1, 16, 1, at_ns=10 * STEP_NS + STEP_NS // 2)
        ends[is_async] = bench.run()[1][0]
    # Seen at the end of step 10: the next step when synchronous; that one is decided already when not.
    assert ends == {False: 12 * STEP_NS, True: 13 * STEP_NS}


def test_host_time_shows_in_synchronous_steps_only() -> None:
    ends = {}
    for is_async in (False, True):
        bench = Bench(async_scheduling=is_async, host_ns=STEP_NS // 4)
        bench.submit(0, 16, 50)
        ends[is_async] = bench.run()[0][0]
    assert ends[False] == 50 * (STEP_NS + STEP_NS // 4)
    assert ends[True] == 50 * STEP_NS + STEP_NS // 4


def test_a_synchronous_pipeline_overlaps_batches_and_an_asynchronous_one_cannot() -> None:
    # Two waves of one request each, so that both stages always have a batch.
    ends = {}
    for is_async in (False, True):
        bench = Bench(stages=2, async_scheduling=is_async, max_num_batched_tokens=16, max_num_seqs=2)
        bench.submit(0, 16, 100)
        bench.submit(1, 16, 100)
        ends[is_async] = max(end for end, _ in bench.run().values())
    # Synchronous: a request's token every two steps, the requests side by side. Asynchronous: both requests
    # in every batch, and a batch needs the tokens of the one before: two steps a token as well.
    assert ends[False] <= 202 * STEP_NS
    assert ends[True] <= 204 * STEP_NS


def test_stretches_are_counted() -> None:
    bench = Bench()
    bench.submit(0, 16, 400)
    bench.run()
    assert bench.instance.stretch_steps >= 0.95 * len(bench.instance.log.end_ns)


def test_a_prompt_that_never_fits_is_given_up_with_its_reason() -> None:
    # Rule 14 of vLLM's logs: the real scheduler waits for ever (10a). The engine does not.
    bench = Bench(num_gpu_blocks=4, max_model_len=512)
    bench.submit(0, 200, 5)
    bench.submit(1, 20, 5, at_ns=10)
    ends = bench.run()
    assert "do not fit into the KV pool" in ends[0][1]
    assert ends[1][1] == ""


def test_output_that_outgrows_the_pool_is_given_up() -> None:
    # 10c: it preempts itself, and can never be admitted again.
    bench = Bench(num_gpu_blocks=4, max_model_len=512)
    bench.submit(0, 20, 100)
    assert "do not fit into the KV pool" in bench.run()[0][1]


def test_chunks_that_never_fit_together_are_given_up() -> None:
    # 10b: without the gate it is admitted by its first chunk and preempts itself, over and over.
    bench = Bench(
        num_gpu_blocks=4, max_model_len=512, max_num_batched_tokens=16, scheduler_reserve_full_isl=False
    )
    bench.submit(0, 200, 5)
    assert "do not fit into the KV pool" in bench.run()[0][1]


def test_cancelled_requests_leave_at_the_next_turn() -> None:
    bench = Bench()
    bench.submit(0, 16, 100)
    event = bench.env.timeout(5 * STEP_NS + 1)
    assert event.callbacks is not None
    event.callbacks.append(lambda _: bench.instance.cancel(0, "client went away"))
    assert bench.run() == {0: (6 * STEP_NS, "client went away")}
    assert bench.instance.scheduler.pool.num_free == 100
