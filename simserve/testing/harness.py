"""Drives a scheduler without a clock: each iteration schedules a batch and, with a full queue, completes one.

For tests of the built-in schedulers and of a user's own: anything with `add`, `abort`, `schedule`,
`complete`, `has_unfinished`, `running` and `waiting` as `simserve.scheduler` has them. After every call
the invariants of `simserve.testing.invariants` are checked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from simserve.errors import SimulationError
from simserve.scheduler.batch import Batch, Usage
from simserve.scheduler.config import SchedulerConfig
from simserve.testing.invariants import check_decision, check_population
from simserve.workload.request import Request


@dataclass(slots=True)
class Drive:
    """What happened in one drive.

    Attributes:
        batches: The batches in order, with the iteration that scheduled them.
        finished: Request ids in the order in which they completed.
        aborted: Request ids that were aborted while unfinished, or that the scheduler has given up itself.
        iterations: How many iterations it took.
        stretches: How many stretches were passed (see `drive`); their batches are not in `batches`.
        stretched: How many iterations lay in them.
        usage: KV blocks in use, and cached ones, after each schedule() that scheduled something, stretches
            included; None where a stretch was passed without asking.
    """

    batches: list[tuple[int, Batch]] = field(default_factory=list)
    finished: list[int] = field(default_factory=list)
    aborted: list[int] = field(default_factory=list)
    iterations: int = 0
    stretches: int = 0
    stretched: int = 0
    usage: list[Usage | None] = field(default_factory=list)


def drive(
    scheduler: Any,
    config: SchedulerConfig,
    arrivals: Mapping[int, Sequence[Request]],
    *,
    aborts: Mapping[int, Sequence[int]] | None = None,
    max_iterations: int = 100_000,
    observer: Callable[[int, Batch | None], None] | None = None,
    stretch: Callable[[int], int] | None = None,
    arrival_orders: Mapping[int, float] | None = None,
    step_ns: int = 1_000_000,
) -> Drive:
    """Run a scheduler until every request has ended, checking its invariants all along.

    Args:
        scheduler: A fresh scheduler; mutated.
        config: The options it was built with (limits are checked against it).
        arrivals: Requests by the iteration in which they arrive.
        aborts: Request ids by the iteration in which the client gives up; ended ones are ignored.
        max_iterations: Bound after which the drive counts as stuck.
        observer: Called after every schedule() with the iteration and the batch (None: nothing scheduled).
        stretch: If given, pass iterations in bulk with `advance` wherever `horizon` allows it: called with
            the longest stretch that ends before the next arrival or abort, returns how much of it to take.
            A stretch can begin with the schedule that is due, or with the completion after it.
        arrival_orders: The scheduler's `arrival_order` by request id; by default it grows with every request.
        step_ns: How long an iteration lasts, for schedulers that look at the time.

    Raises:
        IntegrityError: If an invariant does not hold.
        SimulationError: If requests are left after `max_iterations`.
    """
    orders = dict(arrival_orders or {})
    run = _Run(scheduler, config, dict(arrivals), dict(aborts or {}), observer, stretch, orders, step_ns)
    while run.iteration < max_iterations:
        if not run.iterate():
            run.result.iterations = run.iteration
            return run.result
    raise SimulationError(
        f"{len(scheduler.running)} running and {len(scheduler.waiting)} waiting requests "
        f"after {max_iterations} iterations: the scheduler makes no progress"
    )


@dataclass(slots=True)
class _Run:
    """State of one drive: what is still to come, and the batches in flight (None: an empty schedule)."""

    scheduler: Any
    config: SchedulerConfig
    arrivals: dict[int, Sequence[Request]]
    aborts: dict[int, Sequence[int]]
    observer: Callable[[int, Batch | None], None] | None
    stretch: Callable[[int], int] | None
    orders: dict[int, float]
    step_ns: int
    result: Drive = field(default_factory=Drive)
    added: set[int] = field(default_factory=set)
    in_flight: deque[Batch | None] = field(default_factory=deque)
    iteration: int = 0

    def iterate(self) -> bool:
        """Run one iteration, or several in a stretch; False if there is nothing left to do."""
        scheduler, result = self.scheduler, self.result
        for request in self.arrivals.pop(self.iteration, ()):
            order = self.orders.get(request.id, float(len(self.added)))
            scheduler.add(request, order, self.iteration * self.step_ns)
            self.added.add(request.id)
        for request_id in self.aborts.pop(self.iteration, ()):
            if scheduler.abort(request_id) is not None:
                result.aborted.append(request_id)
        if not (scheduler.has_unfinished or self.in_flight or self.arrivals):
            return False
        batch = None
        if scheduler.has_unfinished:
            batch = self._begin_with_schedule(self.stretch) if self.stretch else None
            batch = batch or self._schedule()
        if self.in_flight and not (batch is not None and len(self.in_flight) < self.config.queue_depth):
            if self.stretch:
                self._begin_with_completion(self.stretch)
            oldest = self.in_flight.popleft()
            if oldest is not None:
                # Stretches replace the batches in flight: only the scheduler knows the oldest one.
                ended = scheduler.complete() if self.stretch else scheduler.complete(oldest)
                result.finished.extend(sequence.request.id for sequence in ended)
        check_population(scheduler, self.added, result.finished, result.aborted)
        self.iteration += 1
        return True

    def _schedule(self) -> Batch | None:
        batch: Batch | None = self.scheduler.schedule(self.iteration * self.step_ns)
        self.result.aborted += [sequence.request.id for sequence, _ in getattr(self.scheduler, "failed", ())]
        check_decision(self.scheduler, self.config, batch)
        self.in_flight.append(batch)
        if batch is not None:
            self.result.batches.append((self.iteration, batch))
            self.result.usage.append((batch.used_blocks, self.scheduler.pool.num_free_cached))
        if self.observer:
            self.observer(self.iteration, batch)
        return batch

    def _begin_with_completion(self, stretch: Callable[[int], int]) -> None:
        """Pass iterations, from the update that is due to the schedule before another one."""
        if None in self.in_flight or len(self.in_flight) < self.config.queue_depth:
            return
        longest = min(self.scheduler.horizon(), self._reach())
        steps = stretch(longest) if longest > 0 else 0
        if steps > 0:
            self._pass(steps, 0)

    def _begin_with_schedule(self, stretch: Callable[[int], int]) -> Batch | None:
        """Pass iterations from the schedule that is due; None if it has to be made."""
        if None in self.in_flight or len(self.in_flight) != self.config.queue_depth - 1:
            return None
        longest = min(self.scheduler.horizon(1), self._reach())
        schedules = stretch(longest + 1) if longest >= 0 else 0
        if schedules == 0:
            return None
        self._pass(schedules - 1, 1)
        batch = Batch(-1)  # stands for the newest batch in flight, which only the scheduler knows
        self.in_flight.append(batch)
        return batch

    def _reach(self) -> int:
        """Iterations until something comes from outside, or time alone changes a decision."""
        known = [*self.arrivals, *self.aborts]
        wake = self.scheduler.wake_at(self.iteration * self.step_ns)
        if wake is not None:
            known.append(-(-wake // self.step_ns))
        return min(known) - self.iteration - 1 if known else 1 << 20

    def _pass(self, steps: int, owed: int) -> None:
        """Advance, in turns asking for the blocks after every schedule and only after the first and last."""
        usage = self.result.usage
        if self.result.stretches % 2:
            first, last = self.scheduler.advance(steps, owed)
            usage += [first, *[None] * (steps + owed - 2), last] if steps + owed > 1 else [first]
        else:
            self.scheduler.advance(steps, owed, usage)
        self.result.stretches += 1
        self.result.stretched += steps
        self.iteration += steps
        check_population(self.scheduler, self.added, self.result.finished, self.result.aborted)
