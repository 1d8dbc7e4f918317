"""One serving instance: its engine's loop on the SimPy clock, one SimPy event a stretch and none a step."""

from __future__ import annotations

from typing import Any

from simpy import Environment, Event

from simserve.engine.alarm import Alarm
from simserve.engine.clock import StageClock
from simserve.engine.loop import Ended
from simserve.engine.stretch import LONGEST_REACH, StretchLoop
from simserve.scheduler.contract import Scheduler
from simserve.workload.request import Request

# SimPy priorities at one moment: arrivals and timers (1) come before engines, engines in order of index.
FIRST_ENGINE_PRIORITY = 2


class Instance(StretchLoop):
    """One engine over its ranks.

    Args:
        env: The clock, in integer nanoseconds.
        index, scheduler, clock, ended, jump, check: Of its engine, see `StretchLoop`.
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
        super().__init__(index, scheduler, clock, ended, jump=jump, check=check)
        self.env = env
        # What will wake it, None while it waits for a request; one that has rung serves again.
        self._wake: Alarm | None = None
        self._spare: Alarm | None = None
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
            end = self._cut(now)
            if end >= 0:
                self._wake.silence()
                self._wake_at(end)

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
                        self._wake_at(self._begin_stretch(steps, now, 1))
                        return
        self._go_on(now)

    def _on_nap(self, _: Event) -> None:
        self._nap = None
        self._go_on(self.env.now)  # type: ignore[arg-type]

    def _go_on(self, now: int) -> None:
        """Take a turn of the loop, and wait for what it says."""
        if self._turn(now):
            self._wake_at(self._plan_ahead(now))
            return
        self._wake = None
        if self._look_again >= 0:
            self._nap = Alarm(self.env, self._on_nap)
            self._nap.set(self._look_again - now, self._priority)
            self._look_again = -1

    def settle(self) -> None:
        """Pass the turns whose time has come, so that the scheduler's state is as of now."""
        if self._silent or self._owed:
            self._pass_until(self.env.now)  # type: ignore[arg-type]

    def close(self) -> None:
        """Bring log and scheduler up to now; nothing may happen afterwards."""
        self.settle()
        self._close()
