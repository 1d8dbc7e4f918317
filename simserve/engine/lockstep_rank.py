"""One rank of engines that run in lock-step: its own requests, scheduler, KV pool and step log.

It decides and completes when its group says so (`lockstep`); in every step it runs a batch of its own or a
dummy. Its log has all of them, so that step k is the same moment on every rank.
"""

from __future__ import annotations

from typing import Any, Protocol

from simserve.cost.lockstep import DUMMY, BatchShape
from simserve.engine.clock import StageClock
from simserve.engine.loop import STUCK_TURNS, Ended, EngineLoop
from simserve.engine.stretch_plan import Plan
from simserve.engine.stretch_record import advance_recorded
from simserve.engine.transfers import TransferClock
from simserve.scheduler.batch import Batch, Forecast
from simserve.scheduler.contract import Scheduler
from simserve.workload.request import Request

# Steps that a rank without requests can pass unseen.
_ENDLESS = 1 << 40


class Group(Protocol):
    """What a rank asks of its group."""

    @property
    def now_ns(self) -> int:
        """The time."""

    def interrupt(self) -> None:
        """Let the ranks look at their input at the first end of a step from now on."""

    def settle(self) -> None:
        """Pass the steps whose time has come, so that the ranks' state is as of now."""


class LockstepRank(EngineLoop):
    """One rank's engine.

    Args:
        index, scheduler, ended: See `EngineLoop`.
        rank: Its number in the group.
        group: Its group.
        links: Its paths of KV entries.
        check: Check the KV bookkeeping after every step.

    Attributes:
        awaits_others: Whether it has gone into the next step's dummy already.
        holds_until: When time alone lets it run what it has: a batch that is being collected is no work yet;
            -1: it does not wait for the time.
    """

    def __init__(
        self,
        index: int,
        rank: int,
        scheduler: Scheduler,
        ended: Ended,
        group: Group,
        *,
        links: TransferClock | None = None,
        check: bool = False,
    ) -> None:
        # The group has the clock.
        clock = StageClock((), host_ns=0, serial=False, transfers=links)
        super().__init__(index, scheduler, clock, ended, check=check)
        self.rank = rank
        self._group = group
        self.awaits_others = False
        self.holds_until = -1
        # Whether requests that wait for a batch are still in front of the engine, which then has no work.
        self._collects = bool(getattr(scheduler, "collects_batches", False))
        self._stuck = 0
        self._forecast: Forecast | None = None

    # -- requests in and out ------------------------------------------------------------------------------

    def submit(self, request: Request, owner: Any) -> int:
        """Hand over a request now; returns the number of the step log that will tell of it."""
        self.outstanding += 1
        self._arrivals.append((request, owner, self._group.now_ns))
        self._group.interrupt()
        return self.index

    def cancel(self, request_id: int, reason: str) -> None:
        """Ask for a request to be dropped; the rank does so at the next step."""
        self._cancelled.append((request_id, reason))
        self._group.interrupt()

    @property
    def has_input(self) -> bool:
        """Whether somebody has come or is to be dropped since the last look."""
        return bool(self._arrivals or self._cancelled)

    @property
    def has_unfinished(self) -> bool:
        """Whether the scheduler knows a request that has not ended."""
        return bool(self.scheduler.sequences)

    @property
    def has_work(self) -> bool:
        """Whether a request has not ended, and not all of them only wait for the time."""
        return self.has_unfinished and self.holds_until < 0

    @property
    def free_blocks(self) -> int:
        """KV blocks that nobody owns, as of now."""
        self._group.settle()
        return self.scheduler.pool.num_free

    def cached_prefix_tokens(self, request: Request) -> int:
        """Leading tokens of a prompt that the prefix cache holds, as of now."""
        self._group.settle()
        return self.scheduler.cached_prefix_tokens(request)

    def counts(self) -> tuple[int, int]:
        """Return (waiting, running) as the scheduler has them; arrivals that it has not seen do not count."""
        return len(self.scheduler.waiting), len(self.scheduler.running)

    # -- one step -----------------------------------------------------------------------------------------

    def take_input(self, now: int) -> None:
        """Take what has come or been cancelled."""
        self.holds_until = -1
        self._take_input(now)

    def decide(self, now: int) -> Batch | None:
        """Schedule the next step; None for a dummy."""
        scheduler = self.scheduler
        self.holds_until = -1
        if not scheduler.sequences:
            return None
        batch = scheduler.schedule(now)
        for sequence, reason in scheduler.failed:
            self._end(sequence, now, reason)
        if scheduler.preempted:
            self._watch_preemptions(now)
        if batch is not None:
            self._stuck = 0
        elif scheduler.sequences and True not in self._flying:
            wake = scheduler.wake_at(now)
            if wake is not None and wake > now:
                self.holds_until = wake if self._collects else -1
            else:
                self._stuck += 1
                if self._stuck > STUCK_TURNS:
                    self._give_up(now)
                    self._stuck = 0
        return batch

    def enter(self, batch: Batch | None) -> None:
        """Go into the step with what `decide` gave."""
        if batch is None:
            self.skip()
        else:
            self._flying.append(True)
        self.awaits_others = not self.has_unfinished

    def skip(self) -> None:
        """Run a dummy: the rank takes part in the step, so it counts as one of its own."""
        if not self.scheduler.sequences and True not in self._flying:
            self.scheduler.idle()
        self.scheduler.steps += 1
        self._flying.append(False)

    def record(self, batch: Batch | None, start_ns: int, end_ns: int) -> None:
        """Note the step that was decided last."""
        if batch is None:
            self._record_dummies(1, start_ns, [end_ns])
            return
        self._recorder.record(batch, start_ns, end_ns)

    def _record_dummies(self, steps: int, start_ns: int, ends_ns: list[int]) -> None:
        scheduler = self.scheduler
        first, waiting = scheduler.steps - steps, len(scheduler.waiting)
        pool = scheduler.pool
        usage = (pool.num_blocks - 1 - pool.num_free, pool.num_free_cached)
        running = len(scheduler.running)
        self._recorder.record_decodes(first, steps, start_ns, 0, running, waiting, usage)
        self._recorder.record_ends(ends_ns)

    def complete(self, now: int) -> None:
        """Take the outputs of the oldest step in flight."""
        if self._flying.popleft():
            for sequence in self.scheduler.complete():
                self._end(sequence, now, "")
        if self._check:
            self.scheduler.check_integrity()

    # -- stretches ----------------------------------------------------------------------------------------

    def horizon(self) -> int:
        """Return how many steps can pass with nothing to be seen, the queue of steps being full."""
        if self.has_input:
            return 0
        if not self.has_work:
            return 0 if True in self._flying else _ENDLESS
        if False in self._flying or getattr(self.scheduler.config, "attention_window", None):
            return 0  # steps of all ranks are priced together, and what windows read is no line
        return self.scheduler.horizon()

    def foresee(self, steps: int) -> tuple[BatchShape, BatchShape | None]:
        """Return the batch of the next of `steps` steps, and the last one's where it has fewer sequences."""
        if not self.has_work:
            self._forecast = None
            return DUMMY, None
        self._forecast = forecast = self.scheduler.forecast(steps)
        count, context = forecast.cohorts[0]
        first = BatchShape(count, context, 0, (), count)
        if forecast.last_sequences < 0:
            return first, None
        last = forecast.last_sequences
        return first, BatchShape(last, forecast.last_context, 0, (), last)

    def advance(self, starts_ns: list[int], ends_ns: list[int], *, whole: bool) -> None:
        """Pass the first of the foreseen steps at once.

        Args:
            starts_ns, ends_ns: When each of them starts and ends.
            whole: Whether they are all that were foreseen.
        """
        steps, forecast = len(ends_ns), self._forecast
        if forecast is None:
            self.scheduler.steps += steps
            self._record_dummies(steps, starts_ns[0], ends_ns)
            return
        last = forecast.last_sequences if whole else -1
        plan = Plan(ends_ns, [forecast.cohorts[0][0]], last, steps)
        plan.starts = starts_ns
        advance_recorded(self.scheduler, self._recorder, plan, 0, steps, 0)
        self._recorder.record_ends(ends_ns)

    def rest(self) -> None:
        """Run no step until the next wave: its first one has a row of its own in the log."""
        self.awaits_others = False
        self._recorder.decodes = -1

    def close(self) -> None:
        """Bring log and scheduler up to now; nothing may happen afterwards."""
        self._group.settle()
        self._close()
