"""The plots of a validation show both sides, as they are."""

from __future__ import annotations

import numpy as np
import pytest

from simserve.report.validation_page import distributions, scatter, time_series
from simserve.scenario.loader import load_scenario
from simserve.simulation import simulate
from simserve.study.measured import Latencies, Measured
from simserve.study.served import read_served
from simserve.study.validate import Validation

pytest.importorskip("plotly")

SCENARIO = """
model: llama-3.1-8b
workload: {arrivals: {kind: constant, rate_per_s: 10}, prompt_tokens: 5, output_tokens: 9, requests: 20}
pools: {hardware: h100-sxm, engine: {async_scheduling: false}}
cost: {kind: constant, base_s: 0.01}
"""


@pytest.fixture(scope="module")
def run() -> Validation:
    """Twenty requests that took twice as long as they do in the simulation."""
    result = simulate(load_scenario(SCENARIO))
    due = np.array(result.requests.arrival_ns) * 1e-9
    served = read_served(result, due, queued=False, overhead_s=0.0)
    times = served.latencies
    twice = Latencies(due, due, times.ttft_s * 2, times.e2el_s * 2, times.output_tokens)
    measured = Measured(twice, np.full(20, 5), np.full(20, -1), np.arange(20))
    return Validation("twice", measured, served, result, 0.0, ())


def test_distributions_are_those_of_both_sides(run: Validation) -> None:
    traces = distributions(run).data
    assert [trace.name for trace in traces] == ["measured", "simulated"] * 3
    measured, simulated = traces[4:]
    assert (measured.x[0], simulated.x[0]) == pytest.approx((0.18, 0.09))
    assert (measured.y[0], measured.y[-1]) == (0.0, 1.0)


def test_requests_over_time(run: Validation) -> None:
    """One comes every 0.1 s and decodes for 0.16 s as measured, for 0.08 s in the simulation."""
    waiting, decoding, _, simulated = time_series(run).data
    assert set(waiting.y) == {0.0, 1.0}
    assert max(decoding.y) == 2.0
    assert max(simulated.y) == 1.0


def test_each_request_is_a_point(run: Validation) -> None:
    points, equal = scatter(run).data[4:]
    assert len(points.x) == 20
    assert np.allclose(np.array(points.x), 2 * np.array(points.y))
    assert tuple(equal.x) == tuple(equal.y)
