"""One serving instance: its engine's loop on the SimPy clock.

Where the scheduler promises that nothing can change for a while, the turns of that while are passed at once,
when somebody looks: one SimPy event a stretch, none a step.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

from simpy import Environment, Event

from simserve.engine.alarm import Alarm
from simserve.engine.clock import Plan, StageClock
from simserve.engine.loop import Ended, EngineLoop
from simserve.scheduler.batch import Usage
from simserve.scheduler.contract import Scheduler
from simserve.workload.request import Request

# SimPy priorities at one moment: arrivals and timers (1) come before engines, engines in order of index.
FIRST_ENGINE_PRIORITY = 2
# Steps priced ahead: doubled when a stretch runs to its end, cut back when an arrival cuts it.
SHORTEST_REACH, LONGEST_REACH = 8, 4096


class Instance(EngineLoop):
    """One engine over its ranks.

    Args:
        env: The clock, in integer nanoseconds.
        index, scheduler, clock, ended, check: Of its engine, see `EngineLoop`.
        jump: Pass stretches at once. The result is the same without, only slower.

    Attributes:
        stretch_steps: Steps that were passed or awaited in stretches of more than one.
    """

    def __init__(
        self,
        env: Environment,
        index: int,
        scheduler: Scheduler,
        clock: StageClock,
        ended: Ended,
        *,
        jump: bool = True,
        check: bool = False,
    ) -> None:
        super().__init__(index, scheduler, clock, ended, check=check)
        self.env = env
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
        # What will wake it, None while it waits for a request; one that has rung serves again.
        self._wake: Alarm | None = None
        self._spare: Alarm | None = None
        # When time alone changes the next decision, -1: never. No stretch passes it.
        self._due = -1
        # What will make an engine with nothing in flight look again, though nobody comes.
        self._nap: Alarm | None = None
        self._priority = FIRST_ENGINE_PRIORITY + index

    # -- requests in and out ------------------------------------------------------------------------------

    def submit(self, request: Request, owner: Any) -> int:
        """Hand over a request now; the engine sees it at the next turn of its loop.

        Returns the number of the step log that will tell of it.
        """
        self.outstanding += 1
        self._arrivals.append((request, owner, self.env.now))  # type: ignore[arg-type]
        if self._silent or self._wake is None:
            self._interrupt()
        return self.index

    def cancel(self, request_id: int, reason: str) -> None:
        """Ask for a request to be dropped; the engine does so at the next turn of its loop."""
        self._cancelled.append((request_id, reason))
        self._interrupt()

    @property
    def free_blocks(self) -> int:
        """KV blocks that nobody owns, as of now."""
        self.settle()
        return self.scheduler.pool.num_free

    def cached_prefix_tokens(self, request: Request) -> int:
        """Leading tokens of a prompt that the prefix cache holds, as of now."""
        self.settle()
        return self.scheduler.cached_prefix_tokens(request)

    # -- the clock ----------------------------------------------------------------------------------------

    def _interrupt(self) -> None:
        """Make the next turn of the loop happen at the first end of a step from now on."""
        now: int = self.env.now  # type: ignore[assignment]
        if self._wake is None:
            if self._nap is not None:
                self._nap.silence()
                self._nap = None
            self._wake_at(now)
        elif self._silent:
            ends = self._plan.ends  # type: ignore[union-attr]
            passed = bisect_left(ends, now, 0, self._silent)
            if passed < self._silent:
                self._reach = max(SHORTEST_REACH, 2 * passed)
                self._silent = passed
                self._wake.silence()
                self._wake_at(ends[passed])

    def _wake_at(self, time_ns: int) -> None:
        """Set the one wake-up that counts."""
        env = self.env
        alarm = self._spare
        if alarm is None:
            alarm = Alarm(env, self._on_wake)
        else:
            self._spare = None
        self._wake = alarm
        alarm.set(time_ns - env.now, self._priority)  # type: ignore[arg-type]

    def _on_wake(self, _: Event) -> None:
        now: int = self.env.now  # type: ignore[assignment]
        self._spare = self._wake
        silent = self._silent
        if silent or self._owed:
            if silent == self._planned:
                self._reach = min(LONGEST_REACH, 2 * self._reach)
            self._pass(silent)
        flying = self._flying
        if flying:
            # The oldest batch in flight ends now.
            flying.popleft()
            del self._ends[0]
            for sequence in self.scheduler.complete():
                self.outstanding -= 1
                self._ended(self, sequence, now, "")
            is_due = 0 <= self._due <= now
            if self._jump and not is_due and not self._arrivals and not self._cancelled:
                # What the engine decides next may be as foreseeable as the steps after it.
                room = self._depth - 1
                if len(self._ends) == room and len(flying) == room:
                    steps = self.scheduler.horizon(1)
                    if steps >= 0:
                        self._begin_stretch(steps, now, 1)
                        return
        self._go_on(now)

    def _on_nap(self, _: Event) -> None:
        self._nap = None
        self._go_on(self.env.now)  # type: ignore[arg-type]

    def _go_on(self, now: int) -> None:
        """Take a turn of the loop, and wait for what it says."""
        if self._turn(now):
            self._plan_ahead(now)
            return
        self._wake = None
        if self._look_again >= 0:
            self._nap = Alarm(self.env, self._on_nap)
            self._nap.set(self._look_again - now, self._priority)
            self._look_again = -1

    def settle(self) -> None:
        """Pass the turns whose time has come, so that the scheduler's state is as of now."""
        if self._silent or self._owed:
            assert self._plan is not None
            passed = bisect_left(self._plan.ends, self.env.now, 0, self._silent)
            if passed or self._owed:
                self._pass(passed)

    # -- stretches ----------------------------------------------------------------------------------------

    def _plan_ahead(self, now: int) -> None:
        """Wait for the oldest batch, or for the end of a stretch in which nothing changes."""
        self._silent = 0
        flying = self._flying
        if self._jump and len(flying) == self._depth and (self._rotates or False not in flying):
            steps = self.scheduler.horizon()
            if steps > 0:
                self._begin_stretch(steps, now, 0)
                return
        self._wake_at(self._ends[0])

    def _begin_stretch(self, steps: int, now: int, owed: int) -> None:
        """Plan silent completions, as far ahead as is worth it, and wake at the one after them."""
        if self._check:
            self.scheduler.check_integrity()
        if steps > self._reach:
            steps = self._reach
        forecast = self.scheduler.forecast(steps + owed)
        self._plan = plan = self._clock.plan(self._ends, forecast, steps + owed, now, owed)
        wake = self.scheduler.wake_at(now)
        self._due = -1
        if wake is not None:
            # The first decision from then on is really made.
            steps = bisect_left(plan.ends, wake, 0, steps)
            self._due = wake
        self._silent = self._planned = steps
        self._owed = owed
        self._wake_at(plan.ends[steps])

    def _pass(self, steps: int) -> None:
        """Pass the first turns of the plan: as many completions, each with the decode step it lets start."""
        plan = self._plan
        assert plan is not None
        scheduler = self.scheduler
        owed = self._owed
        schedules = steps + owed
        ends = plan.ends
        in_flight = len(self._ends)
        first = scheduler.steps
        if len(plan.counts) > 1 or self.trace is not None:
            self._pass_traced(plan, steps, owed)
        else:
            first_usage, last_usage = scheduler.advance(steps, owed)
            recorder = self._recorder
            plain = schedules
            if plan.last_count >= 0 and schedules == plan.schedules:
                plain -= 1
            waiting = len(scheduler.waiting)
            count = plan.counts[0]
            if plain and count == recorder.decodes and waiting == recorder.waiting:
                recorder.steps += plain
            elif plain:
                start = plan.start_of(in_flight, 0)
                running = len(scheduler.running)
                recorder.record_decodes(first, plain, start, count, running, waiting, first_usage)
            if plain < schedules:
                start = plan.start_of(in_flight, plain)
                running, count = len(scheduler.running), plan.last_count
                recorder.record_decodes(first + plain, 1, start, count, running, waiting, last_usage)
        self._recorder.record_ends(ends[in_flight : in_flight + schedules])
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

    def _pass_traced(self, plan: Plan, steps: int, owed: int) -> None:
        """The same for cohorts in turn, and where every step is to be seen."""
        scheduler = self.scheduler
        schedules = steps + owed
        in_flight = len(self._ends)
        first = scheduler.steps
        usage: list[Usage] = []
        scheduler.advance(steps, owed, usage)
        running, waiting = len(scheduler.running), len(scheduler.waiting)
        for step in range(schedules):
            count = plan.counts[step % len(plan.counts)]
            if plan.last_count >= 0 and step == plan.schedules - 1:
                count = plan.last_count
            start = plan.start_of(in_flight, step)
            self._recorder.record_decodes(first + step, 1, start, count, running, waiting, usage[step])
            if self.trace is not None:
                end = plan.ends[in_flight + step]
                self.trace.append((first + step, end, count, 0, *usage[step], waiting))

    def _rotate(self, steps: int) -> None:
        """Move the empty places of the queue as that many turns of the loop would."""
        flying = self._flying
        for _ in range(steps):
            flying.popleft()
            flying.append(True)
            while not flying[0]:
                flying.rotate(-1)

    def close(self) -> None:
        """Bring log and scheduler up to now; nothing may happen afterwards."""
        self.settle()
        self._close()
