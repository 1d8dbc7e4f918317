"""Stage clocks: plans give what dispatching one by one gives, in pipelines and with host time too."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.cost.simple import LinearTimer
from simserve.engine.clock import StageClock
from simserve.scheduler.batch import Batch, Forecast


def decode_batch(step: int, count: int, context: int) -> Batch:
    batch = Batch(step)
    batch.decodes = batch.samples = count
    batch.context_tokens = context
    return batch


@settings(max_examples=60, deadline=None)
@given(
    stages=st.integers(1, 3),
    host_ns=st.sampled_from([0, 300, 5_000_000]),
    serial=st.booleans(),
    steps=st.integers(1, 12),
    shapes=st.lists(st.tuples(st.integers(1, 9), st.integers(100, 900)), min_size=1, max_size=3),
)
def test_a_plan_equals_dispatching(
    stages: int, host_ns: int, serial: bool, steps: int, shapes: list[tuple[int, int]]
) -> None:
    if serial:
        shapes = shapes[:1]
    timers = [LinearTimer(1e-3 * (stage + 1), 1e-6, 1e-5, 1e-7) for stage in range(stages)]
    planned, dispatched = (StageClock(timers, host_ns=host_ns, serial=serial) for _ in range(2))
    turns = len(shapes)
    ends = []
    for step, (count, context) in enumerate(shapes):
        ends.append(planned.dispatch(decode_batch(step, count, context), 0))
        dispatched.dispatch(decode_batch(step, count, context), 0)
    coming = [(count, context + count) for count, context in shapes]
    plan = planned.plan(ends, Forecast(coming, -1, -1), steps, 0, 0)
    expected, starts = list(ends), []
    for step in range(steps):
        count, context = coming[step % turns]
        batch = decode_batch(step, count, context + count * (step // turns))
        expected.append(dispatched.dispatch(batch, expected[step]))
        starts.append(dispatched.start_ns)
    assert plan.ends == expected
    assert [plan.start_of(turns, step) for step in range(steps)] == starts
    planned.follow(plan, turns, steps)
    after = decode_batch(99, 3, 500)
    assert planned.dispatch(after, expected[steps]) == dispatched.dispatch(after, expected[steps])


@pytest.mark.parametrize("stages", [1, 2])
def test_an_owed_step_is_decided_now(stages: int) -> None:
    timers = [LinearTimer(1e-3, 0, 0, 0)] * stages
    clock = StageClock(timers, host_ns=0, serial=False)
    plan = clock.plan([], Forecast([(2, 100)], -1, -1), 3, 7_000, 1)
    length = 1_000_000 * stages
    assert plan.ends == [7_000 + length * (step + 1) for step in range(3)]
    assert plan.start_of(0, 0) == 7_000
