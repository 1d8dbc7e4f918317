"""What the step log has of a stretch: the same rows as if its steps had been decided one by one."""

from __future__ import annotations

from simserve.engine.step_log import StepRecorder
from simserve.engine.stretch_plan import Plan
from simserve.scheduler.batch import Usage
from simserve.scheduler.contract import Scheduler


def advance_recorded(
    scheduler: Scheduler, recorder: StepRecorder, plan: Plan, in_flight: int, steps: int, owed: int
) -> None:
    """Let a scheduler pass steps of a plan, and record them; their ends are recorded by the caller.

    Args:
        scheduler: It has promised the steps; mutated.
        recorder: Of its engine; mutated.
        plan: Of its steps.
        in_flight: Batches in flight, whose ends the plan has first.
        steps, owed: See `Scheduler.advance`.
    """
    if len(plan.counts) > 1 or recorder.trace is not None:
        _advance_one_by_one(scheduler, recorder, plan, in_flight, steps, owed)
        return
    first = scheduler.steps
    first_usage, last_usage = scheduler.advance(steps, owed)
    plain = schedules = steps + owed
    if plan.last_count >= 0 and schedules == plan.schedules:
        plain -= 1
    waiting, count = len(scheduler.waiting), plan.counts[0]
    if plain and count == recorder.decodes and waiting == recorder.waiting:
        recorder.steps += plain
    elif plain:
        start, running = plan.start_of(in_flight, 0), len(scheduler.running)
        recorder.record_decodes(first, plain, start, count, running, waiting, first_usage)
    if plain < schedules:
        start, running = plan.start_of(in_flight, plain), len(scheduler.running)
        recorder.record_decodes(first + plain, 1, start, plan.last_count, running, waiting, last_usage)


def _advance_one_by_one(
    scheduler: Scheduler, recorder: StepRecorder, plan: Plan, in_flight: int, steps: int, owed: int
) -> None:
    """The same where cohorts take turns, or every step is to be seen."""
    first = scheduler.steps
    usage: list[Usage] = []
    scheduler.advance(steps, owed, usage)
    running, waiting = len(scheduler.running), len(scheduler.waiting)
    counts, turns = plan.counts, len(plan.counts)
    thinned = plan.schedules - 1 if plan.last_count >= 0 else -1
    for step in range(steps + owed):
        count = plan.last_count if step == thinned else counts[step % turns]
        start = plan.start_of(in_flight, step)
        recorder.record_decodes(first + step, 1, start, count, running, waiting, usage[step])
