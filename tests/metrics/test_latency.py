"""Latencies from the steps equal those from every token's own time."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from simserve.metrics.columns import RequestColumns
from simserve.metrics.latency import e2el_ns, inter_token_gaps, tpot_ns, ttft_ns
from simserve.metrics.record import COMPLETED, RequestLog, StepLog

MakeRun = Callable[..., tuple[RequestLog, list[StepLog]]]


def token_times(record: RequestLog, logs: list[StepLog], row: int) -> list[int]:
    """Return the end of the step of every token of a completed request."""
    ends = logs[record.instance[row]].end_ns
    regular = range(record.first_token_step[row], record.finish_step[row] + 1)
    return [ends[step] for step in record.token_steps.get(record.request_id[row], regular)]


@pytest.mark.parametrize("seed", range(20))
def test_gaps_equal_those_of_a_walk_over_every_token(make_run: MakeRun, seed: int) -> None:
    record, logs = make_run(seed)
    columns = RequestColumns.of(record, logs)
    expected: list[int] = []
    for row, status in enumerate(record.status):
        if status == COMPLETED:
            # A chunk of the stream is what one step gave: its tokens have one time between them.
            times = list(dict.fromkeys(token_times(record, logs, row)))
            expected += [after - before for before, after in pairwise(times)]
    gaps, counts = inter_token_gaps(columns, record.token_steps, columns.completed)
    assert sorted(np.repeat(gaps, counts).tolist()) == sorted(expected)


@pytest.mark.parametrize("seed", range(5))
def test_request_latencies_follow_from_token_times(make_run: MakeRun, seed: int) -> None:
    record, logs = make_run(seed)
    columns = RequestColumns.of(record, logs)
    ttft, e2el = ttft_ns(columns), e2el_ns(columns)
    tpot = tpot_ns(columns, ttft, e2el)
    completed = [row for row, status in enumerate(record.status) if status == COMPLETED]
    assert completed
    for row in completed:
        times = token_times(record, logs, row)
        assert ttft[row] == times[0] - record.arrival_ns[row]
        assert e2el[row] == times[-1] - record.arrival_ns[row]
        if len(times) > 1:
            assert tpot[row] == pytest.approx((times[-1] - times[0]) / (len(times) - 1))


def test_step_starts_are_on_record_or_follow_the_step_before() -> None:
    log = StepLog(0, 10, end_ns=array("q", [10, 25, 40]), first_step=array("q", [0, 2]))
    log.steps.extend([2, 1])
    log.start_ns.extend([3, 31])
    record = RequestLog()
    columns = RequestColumns.of(record, [log])
    assert columns.steps.start_ns(np.array([0, 1, 2])).tolist() == [3, 10, 31]


def test_chosen_requests_only(make_run: MakeRun) -> None:
    record, logs = make_run(3)
    columns = RequestColumns.of(record, logs)
    nobody = np.zeros(len(columns), dtype=np.bool_)
    _, counts = inter_token_gaps(columns, record.token_steps, nobody)
    assert counts.sum() == 0
