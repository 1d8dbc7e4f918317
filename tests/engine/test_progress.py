"""What an engine says of requests that it can never run: who holds the memory, and what would help."""

from __future__ import annotations

import pytest
from simpy import Environment

from simserve.cost.simple import ConstantTimer
from simserve.engine.clock import StageClock
from simserve.engine.instance import Instance
from simserve.engine.loop import EngineLoop
from simserve.engine.progress import explain_shortage, explain_standstill
from simserve.engine.transfers import TransferClock
from simserve.errors import SimulationError
from simserve.kvcache.cache_plan import CachePlan, TierPlan
from simserve.kvcache.tier import TierSpec
from simserve.scheduler.config import SchedulerConfig, Speculation
from simserve.scheduler.sequence import Sequence
from simserve.scheduler.vllm import VllmScheduler
from simserve.workload.request import Request, Segment

MS = 1_000_000
RAISE = "raise gpu_memory_utilization or num_gpu_blocks_override"


def run_beside_a_load() -> dict[int, str]:
    """Let a request outgrow what a slow load beside the steps leaves of 18 blocks; returns why each ended.

    Request 0 leaves its prompt in a tier. Request 2 has the same prompt, and 8 blocks for it, when the more
    urgent request 1 needs its eleventh.
    """
    tiers = TierPlan((TierSpec("host", 4000, 1e3),), (False,), 1, chunk_tokens=8, load="async")
    config = SchedulerConfig(
        num_gpu_blocks=19, block_size=8, max_model_len=144, policy="priority", enable_prefix_caching=False,
        cache=CachePlan(tiers=tiers),
    )  # fmt: skip
    reasons: dict[int, str] = {}

    def note(engine: EngineLoop, sequence: Sequence, now_ns: int, reason: str) -> None:
        reasons[sequence.request.id] = reason

    env = Environment(0)
    clock = StageClock([ConstantTimer(1e-3)], host_ns=0, serial=False, transfers=TransferClock(1e3, 1e12))
    instance = Instance(env, 0, VllmScheduler(config), clock, note)
    for request_id, stream, output, at_ns in ((0, 7, 2, 0), (1, 8, 40, 500 * MS), (2, 7, 2, 501 * MS)):
        prompt = (Segment(stream, 0, 70),)
        request = Request(
            request_id, at_ns, prompt, 70, output, output, 100 + request_id, shared_tokens=70,
            priority=int(request_id == 2),
        )  # fmt: skip
        event = env.timeout(at_ns)
        assert event.callbacks is not None
        event.callbacks.append(lambda _, request=request: instance.submit(request, None))  # type: ignore[misc]
    env.run()
    instance.close()
    return reasons


def test_blocks_that_a_load_holds_are_named_with_what_helps() -> None:
    reasons = run_beside_a_load()
    assert reasons == {
        0: "",
        1: "cannot be scheduled: its tokens do not fit into the KV pool of 18 blocks beside those that other "
        f"waiting requests hold for what was loaded for them from a tier; {RAISE}, or set kv_cache.load to "
        "blocking",
        2: "",
    }


def test_slots_of_drafts_are_named_too() -> None:
    speculative = Speculation("eagle", 2, lambda request_id, steps, drafts: 0)
    scheduler = VllmScheduler(SchedulerConfig(num_gpu_blocks=4, speculative=speculative))
    sequence = scheduler.add(Request(0, 0, (), 60, 5, 5, 0), 0.0)
    assert explain_shortage(scheduler, sequence) == (
        "its tokens and the slots of 2 drafts do not fit into the KV pool of 3 blocks; "
        f"{RAISE}, or lower num_speculative_tokens"
    )


class Idle(VllmScheduler):
    """Admits, and then runs nobody."""

    def schedule(self, now_ns: int = 0) -> None:
        """Take the first of the waiting without a step."""
        while self.waiting:
            sequence = self.waiting.pop_head()
            self.cache.admit(sequence, *self._lookup(sequence), sequence.known, 0)
            self.running.append(sequence)


@pytest.mark.parametrize(("blocks", "rest"), [(9, "and each needs another"), (11, "2 are free")])
def test_running_requests_that_get_no_step_are_told_with_what_they_hold(blocks: int, rest: str) -> None:
    scheduler = Idle(SchedulerConfig(num_gpu_blocks=blocks, max_model_len=512))
    clock = StageClock([ConstantTimer(1e-3)], host_ns=0, serial=False)
    env = Environment(0)
    instance = Instance(env, 3, scheduler, clock, lambda *_: None)
    for request_id in range(2):
        instance.submit(Request(request_id, 0, (), 64, 5, 5, request_id), None)
    with pytest.raises(SimulationError, match=f"instance 3 stands still: 2 running.* hold 8 of .*{rest}"):
        env.run()
    assert RAISE in explain_standstill(scheduler) or blocks > 9
