"""The loop of a serving engine: schedule, time, complete, in vLLM's order.

One turn: take what has arrived, schedule; while the queue of batches in flight has room, go on; else wait
for the oldest batch and take its outputs. `instance` puts the loop on the clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from simserve.engine.clock import StageClock
from simserve.engine.progress import explain_shortage, explain_standstill, explain_stuck
from simserve.engine.step_log import StepRecorder
from simserve.errors import SimulationError
from simserve.metrics.record import StepLog
from simserve.scheduler.contract import Scheduler
from simserve.scheduler.sequence import Sequence
from simserve.workload.request import Request

# Turns without a batch, with nothing in flight, after which the head of the queue is given up.
STUCK_TURNS = 3
# A request that loses its blocks so often will never end (rule 14 of vLLM's decision logs).
_MOST_PREEMPTIONS = 10_000

Ended = Callable[["EngineLoop", Sequence, int, str], None]


class Waiting(NamedTuple):
    """A request without a seat.

    Attributes:
        request: The request.
        owner: Whose it is: what was handed to `Instance.submit` with it.
        order: Order of arrival at its instance.
    """

    request: Request
    owner: Any
    order: float

    def rank(self) -> tuple[int, float, int]:
        """The highest is the first to go: the lowest priority, then the oldest, in the end the lowest id."""
        return (self.request.priority, -self.order, -self.request.id)


class EngineLoop:
    """What one engine does between two moments; it never waits.

    Args:
        index: Number of the engine, counted through the cluster, and of its step log.
        scheduler: Its policy; the engine alone mutates it.
        clock: Prices and orders its steps.
        ended: Called with (engine, sequence, time, why it failed or "") when a request has ended.
        check: Check the KV bookkeeping after every turn of the loop.

    Attributes:
        outstanding: Requests running and waiting.
        log: Its steps.
    """

    def __init__(
        self, index: int, scheduler: Scheduler, clock: StageClock, ended: Ended, *, check: bool = False
    ) -> None:
        self.index = index
        self.scheduler = scheduler
        self.outstanding = 0
        self.log = StepLog(index, scheduler.pool.num_blocks - 1)
        cache = getattr(scheduler, "cache", None)
        self.log.fragmentation = getattr(cache, "fragmentation", None)
        self.log.shards = getattr(cache, "shards", None)
        self.log.tiers = getattr(scheduler, "tier_counts", None) or getattr(cache, "tier_counts", None)
        self._recorder = StepRecorder(self.log, scheduler.pool)
        self._clock = clock
        connector = getattr(scheduler, "connector", None)
        if connector is not None and clock.links is not None:
            connector.links = clock.links
        self._ended = ended
        self._check = check
        self._depth = scheduler.config.queue_depth
        # (request, owner, when it was handed over)
        self._arrivals: list[tuple[Request, Any, int]] = []
        self._cancelled: list[tuple[int, str]] = []
        # Batches in flight, oldest first; False stands for a schedule() that found nothing to run, which
        # takes a place in vLLM's queue too. `_ends` are the ends of the others.
        self._flying: deque[bool] = deque()
        self._ends: list[int] = []
        self._taken = 0
        # When to look again although nothing is in flight and nobody comes: a policy's timeout; -1: never.
        self._look_again = -1

    def _turn(self, now: int) -> bool:
        """Go round the loop until it waits: for the oldest batch (True), or for a request (False)."""
        scheduler, flying = self.scheduler, self._flying
        stuck = 0
        while True:
            if self._arrivals or self._cancelled:
                self._take_input(now)
            if scheduler.sequences:
                batch = scheduler.schedule(now)
                flying.append(batch is not None)
                for sequence, reason in scheduler.failed:
                    self._end(sequence, now, reason)
                if batch is not None:
                    end = self._clock.dispatch(batch, now)
                    self._ends.append(end)
                    self._recorder.record(batch, self._clock.start_ns, end)
                    if len(flying) < self._depth:
                        continue
                elif not self._ends:
                    wake = scheduler.wake_at(now)
                    if wake is not None and wake > now:
                        flying.clear()
                        self._look_again = wake
                        return False
                    stuck += 1
                    if stuck > STUCK_TURNS:
                        self._give_up(now)
                        stuck = 0
                if scheduler.preempted:
                    self._watch_preemptions(now)
            if not flying:
                if not scheduler.sequences:
                    scheduler.idle()
                return False
            if flying[0]:
                break
            flying.popleft()
        if self._check:
            scheduler.check_integrity()
        return True

    def _close(self) -> None:
        """Bring the log to its end."""
        self._recorder.flush()
        # Only kinds that pad their batches count that.
        self.log.padding_tokens = getattr(self.scheduler, "padding_tokens", None)
        self.log.short_at_blocks = getattr(self.scheduler, "short_at_blocks", None)
        if self._clock.links is not None:
            self.log.paths = self._clock.links.busy_until(self.log.end_ns[-1] if self.log.end_ns else 0)

    def _take_input(self, now: int) -> None:
        for request, owner, arrived_ns in self._arrivals:
            # vLLM's arrival_time: requests that arrive together still have an order.
            self._taken += 1
            self.scheduler.add(request, self._taken, arrived_ns).owner = owner
        self._arrivals.clear()
        for request_id, reason in self._cancelled:
            sequence = self.scheduler.abort(request_id)
            if sequence is not None:
                self._end(sequence, now, reason)
        self._cancelled.clear()

    def _end(self, sequence: Sequence, now: int, reason: str) -> None:
        self.outstanding -= 1
        self._ended(self, sequence, now, reason)

    # -- what others may ask --------------------------------------------------------------------------------

    @property
    def trace(self) -> list[tuple[int, ...]] | None:
        """Every step, if a list has been set; see `StepRecorder`."""
        return self._recorder.trace

    @trace.setter
    def trace(self, trace: list[tuple[int, ...]] | None) -> None:
        self._recorder.trace = trace

    @property
    def engines(self) -> list[EngineLoop]:
        """Itself: an instance without data parallelism is one engine."""
        return [self]

    @property
    def waiting(self) -> int:
        """Requests that have no seat."""
        return len(self.scheduler.waiting) + len(self._arrivals) - len(self._cancelled)

    def oldest_waiting(self) -> Waiting | None:
        """Return the waiting request of lowest priority, the oldest of those; None if none waits."""
        leaving = {request_id for request_id, _ in self._cancelled}
        queue = [Waiting(s.request, s.owner, s.arrival_order) for s in self.scheduler.waiting]
        # Those that the engine has not looked at yet come after all it knows.
        queue += [Waiting(*each[:2], self._taken + 1 + i) for i, each in enumerate(self._arrivals)]
        return max((w for w in queue if w.request.id not in leaving), key=Waiting.rank, default=None)

    def find_sequence(self, request_id: int) -> Sequence | None:
        """Return the state of a request that the scheduler knows; None for any other."""
        return self.scheduler.sequences.get(request_id)

    def has_request(self, request_id: int) -> bool:
        """Whether a request has come and not ended."""
        coming = any(request.id == request_id for request, *_ in self._arrivals)
        return coming or request_id in self.scheduler.sequences

    # -- progress -----------------------------------------------------------------------------------------

    def _give_up(self, now: int) -> None:
        """Fail the head of a queue that will never be served: nothing runs, and nothing will change."""
        scheduler = self.scheduler
        head = scheduler.waiting.head() if len(scheduler.waiting) else None
        if head is None:
            raise SimulationError(f"instance {self.index} stands still: {explain_standstill(scheduler)}")
        reason = explain_stuck(scheduler, head)
        scheduler.abort(head.request.id)
        self._end(head, now, f"cannot be scheduled: {reason}")

    def _watch_preemptions(self, now: int) -> None:
        for sequence in list(self.scheduler.preempted):
            if sequence.preemptions > _MOST_PREEMPTIONS:
                reason = explain_shortage(self.scheduler, sequence)
                self.scheduler.abort(sequence.request.id)
                self._end(sequence, now, f"preempted for ever: {reason}")
