"""Stretches: the turns of an engine's loop in which nothing can change, passed at once.

The scheduler says for how long that is so, the clock prices the steps, and they are passed when somebody
looks: at the end of the stretch, when it is cut, or when the state as of now is asked for.
"""

from __future__ import annotations

from bisect import bisect_left

from simserve.engine.clock import StageClock
from simserve.engine.loop import Ended, EngineLoop
from simserve.engine.stretch_plan import Plan
from simserve.engine.stretch_record import advance_recorded
from simserve.scheduler.contract import Scheduler

# Steps priced ahead: doubled when a stretch runs to its end, cut back when an arrival cuts it.
SHORTEST_REACH, LONGEST_REACH = 8, 4096


class StretchLoop(EngineLoop):
    """A loop that passes many turns at once.

    Args:
        index, scheduler, clock, ended, check: See `EngineLoop`.
        jump: Pass stretches at once. The result is the same without, only slower.

    Attributes:
        stretch_steps: Steps that were passed or awaited in stretches of more than one.
    """

    def __init__(
        self,
        index: int,
        scheduler: Scheduler,
        clock: StageClock,
        ended: Ended,
        *,
        jump: bool = True,
        check: bool = False,
    ) -> None:
        super().__init__(index, scheduler, clock, ended, check=check)
        self.stretch_steps = 0
        self._jump = jump
        # Whether the batches in flight hold different sequences (a pipeline that schedules synchronously).
        self._rotates = not scheduler.config.async_scheduling
        # The coming ends of a stretch, the batches in flight first.
        self._plan: Plan | None = None
        # Of the stretch: completions that pass silently, as planned and as left; a schedule owed before them.
        self._planned = 0
        self._silent = 0
        self._owed = 0
        self._reach = SHORTEST_REACH
        # When time alone changes the next decision, -1: never. No stretch passes it.
        self._due = -1

    def _plan_ahead(self, now: int) -> int:
        """Return when the oldest batch ends, or a stretch in which nothing changes."""
        self._silent = 0
        flying = self._flying
        if self._jump and len(flying) == self._depth and (self._rotates or False not in flying):
            steps = self.scheduler.horizon()
            if steps > 0:
                return self._begin_stretch(steps, now, 0)
        return self._ends[0]

    def _begin_stretch(self, steps: int, now: int, owed: int) -> int:
        """Plan silent completions, as far ahead as is worth it; returns the end of the one after them."""
        scheduler = self.scheduler
        if self._check:
            scheduler.check_integrity()
        if steps > self._reach:
            steps = self._reach
        schedules = steps + owed
        forecast = scheduler.forecast(schedules)
        self._plan = plan = self._clock.plan(self._ends, forecast, schedules, now, owed)
        wake = scheduler.wake_at(now)
        self._due = -1
        if wake is not None:
            # The first decision from then on is really made.
            steps = bisect_left(plan.ends, wake, 0, steps)
            self._due = wake
        self._silent = self._planned = steps
        self._owed = owed
        return plan.ends[steps]

    def _cut(self, now: int) -> int:
        """End the stretch with the first step that ends from now on; returns that end, or -1 if it stays."""
        assert self._plan is not None
        ends = self._plan.ends
        passed = bisect_left(ends, now, 0, self._silent)
        if passed == self._silent:
            return -1
        self._reach = max(SHORTEST_REACH, 2 * passed)
        self._silent = passed
        return ends[passed]

    def _pass_until(self, now: int) -> None:
        """Pass the turns whose time has come."""
        assert self._plan is not None
        passed = bisect_left(self._plan.ends, now, 0, self._silent)
        if passed or self._owed:
            self._pass(passed)

    def _pass(self, steps: int) -> None:
        """Pass the first turns of the plan: as many completions, each with the decode step it lets start."""
        plan = self._plan
        assert plan is not None
        owed = self._owed
        schedules = steps + owed
        ends = plan.ends
        in_flight = len(self._ends)
        scheduler, recorder = self.scheduler, self._recorder
        advance_recorded(scheduler, recorder, plan, in_flight, steps, owed)
        recorder.record_ends(ends[in_flight : in_flight + schedules])
        if steps:
            scheduler.expire(ends[steps - 1])
        self._clock.follow(plan, in_flight, schedules)
        if schedules > 1 or self._planned > 1:
            self.stretch_steps += schedules
        self._silent -= steps
        self._owed = 0
        self._ends = ends[steps : in_flight + schedules]
        if self._silent:
            plan.drop(steps, schedules)
        if owed:
            self._flying.append(True)
        if len(self._flying) != len(self._ends):
            self._rotate(steps)

    def _rotate(self, steps: int) -> None:
        """Move the empty places of the queue as that many turns of the loop would."""
        flying = self._flying
        for _ in range(steps):
            flying.popleft()
            flying.append(True)
            while not flying[0]:
                flying.rotate(-1)
