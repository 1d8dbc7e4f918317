"""An engine whose policy waits for the time: it looks again then, and at once when a request comes."""

from __future__ import annotations

from typing import Any

import pytest
from simpy import Environment

from simserve import registry
from simserve.cost.simple import ConstantTimer
from simserve.engine.clock import StageClock
from simserve.engine.instance import Instance
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.sarathi import SarathiScheduler
from simserve.scheduler.sequence import Sequence
from simserve.workload.request import Request

MS = 1_000_000


class Bench:
    """One instance with steps of 1 ms."""

    def __init__(self, kind: str | type, *, seats: int = 4, jump: bool = True, **options: Any) -> None:
        self.env = Environment(0)
        policy = registry.lookup("engine", kind) if isinstance(kind, str) else kind
        config = SchedulerConfig(num_gpu_blocks=201, max_model_len=512, max_num_seqs=seats)
        clock = StageClock([ConstantTimer(0.001)], host_ns=0, serial=False)
        self.ends: dict[int, int] = {}
        self.instance = Instance(
            self.env, 0, policy(config, **options), clock, self._ended, jump=jump, check=True
        )

    def _ended(self, instance: Instance, sequence: Sequence, now: int, reason: str) -> None:
        self.ends[sequence.request.id] = now

    def at(self, at_ns: int, call: Any) -> None:
        event = self.env.timeout(at_ns)
        assert event.callbacks is not None
        event.callbacks.append(lambda _: call())

    def submit(self, request_id: int, output: int, at_ns: int) -> None:
        request = Request(request_id, at_ns, (), 10, output, output, request_id)
        self.at(at_ns, lambda: self.instance.submit(request, None))

    def run(self) -> dict[int, int]:
        self.env.run()
        self.instance.close()
        return self.ends


@pytest.mark.parametrize("jump", [True, False])
def test_a_batch_that_is_not_full_goes_when_the_oldest_has_waited(jump: bool) -> None:
    bench = Bench("static", jump=jump, max_wait_s=0.05)
    bench.submit(0, 5, at_ns=0)
    bench.submit(1, 3, at_ns=10 * MS)
    assert bench.run() == {0: 55 * MS, 1: 55 * MS}
    assert bench.instance.log.start_ns[0] == 50 * MS


@pytest.mark.parametrize("jump", [True, False])
def test_the_request_that_fills_a_batch_starts_it(jump: bool) -> None:
    bench = Bench("static", seats=2, jump=jump, max_wait_s=0.05)
    bench.submit(0, 5, at_ns=0)
    bench.submit(1, 3, at_ns=10 * MS)
    bench.submit(2, 1, at_ns=12 * MS)
    # The third comes while the batch runs: its time is up 50 ms after it came.
    assert bench.run() == {0: 15 * MS, 1: 15 * MS, 2: 63 * MS}


def test_a_wait_ends_when_the_client_gives_up() -> None:
    bench = Bench("static", max_wait_s=0.05)
    bench.submit(0, 5, at_ns=0)
    bench.at(20 * MS, lambda: bench.instance.cancel(0, "timeout"))
    bench.submit(1, 2, at_ns=30 * MS)
    assert bench.run() == {0: 20 * MS, 1: 82 * MS}


def test_time_that_changes_a_decision_cuts_a_stretch() -> None:
    """A policy that names a time is asked to decide at the first end of a step from then on."""
    decided: list[int] = []

    class Watching(SarathiScheduler):
        def decide(self) -> None:
            decided.append(self.now_ns)
            super().decide()

        def wake_at(self, now_ns: int) -> int | None:
            return 20_500_000 if now_ns < 20_500_000 else None

    bench = Bench(Watching)
    bench.submit(0, 100, at_ns=0)
    assert bench.run() == {0: 100 * MS}
    assert 21 * MS in decided
    assert len(decided) < 40
