"""A SimPy event that calls one function, and can be set again once it has."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappush

from simpy import Environment, Event


class Alarm(Event):
    """Rings once each time it is set; made by the million, so without `Event`'s own constructor.

    Args:
        env: The clock, in integer nanoseconds.
        call: What to call, with the alarm itself.
    """

    def __init__(self, env: Environment, call: Callable[[Event], None]) -> None:
        self.env = env
        self._call = call
        self._value = None
        self._ok = True

    def set(self, delay_ns: int, priority: int) -> None:
        """Ring in `delay_ns`. Events at the same moment happen in order of priority, then of setting."""
        self.callbacks = [self._call]
        # What `Environment.schedule` does, without another call.
        env = self.env
        heappush(env._queue, (env._now + delay_ns, priority, next(env._eid), self))  # type: ignore[misc]

    def silence(self) -> None:
        """Do nothing when the time comes. It must not be set again: its place in the queue remains."""
        self.callbacks = []
