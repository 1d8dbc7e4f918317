"""The figures: numpy's statistics, errors, bounds and distances."""

from __future__ import annotations

import numpy as np
import pytest

from simserve.metrics.columns import Floats
from simserve.study.comparison import (
    Bound,
    Figure,
    compare,
    kolmogorov_distance,
    mean_absolute_errors,
    without_first,
)
from simserve.study.measured import Latencies


def side(ttft: Floats, e2el: Floats, **gaps: object) -> Latencies:
    count = len(ttft)
    due = np.arange(count, dtype=np.float64)
    return Latencies(due, due + 0.5, ttft, e2el, np.full(count, 11), **gaps)  # type: ignore[arg-type]


def test_figures_are_numpys() -> None:
    draw = np.random.default_rng(1)
    ttft, e2el = draw.uniform(0.1, 0.2, 50), draw.uniform(1, 3, 50)
    values, counts = draw.uniform(0, 1, 40), draw.integers(0, 5, 40)
    measured = side(ttft, e2el)
    figures = compare(measured, side(ttft * 1.1, e2el * 1.1, gaps_s=values, gap_counts=counts))
    assert figures["e2el_p90_s"].measured == pytest.approx(np.percentile(e2el, 90))
    assert figures["ttft_mean_s"].simulated == pytest.approx(ttft.mean() * 1.1)
    assert figures["tpot_p50_s"].measured == pytest.approx(np.median((e2el - ttft) / 10))
    assert figures["tpot_mean_s"].error_percent == pytest.approx(10.0)
    repeated = np.repeat(values, counts)
    for key, expected in (("mean", repeated.mean()), ("p95", np.percentile(repeated, 95))):
        figure = figures[f"itl_{key}_s"]
        assert figure.simulated == pytest.approx(expected)
        assert figure.as_dict() == {
            "measured": None,
            "simulated": figure.simulated,
            "error_percent": None,
        }
        assert figure.holds is None
    makespan = float((np.arange(50) + 0.5 + e2el).max())
    assert figures["makespan_s"].measured == pytest.approx(makespan)
    assert figures["output_throughput"].measured == pytest.approx(550 / makespan)


def test_what_did_not_complete_is_not_counted() -> None:
    figures = compare(
        side(np.array([0.1, 0.1]), np.array([1.0, 2.0])),
        side(np.array([0.1, np.nan]), np.array([1.0, np.nan])),
    )
    assert figures["e2el_mean_s"].simulated == 1.0
    assert figures["output_throughput"].simulated == pytest.approx(11 / 1.5)
    nothing = np.array([np.nan, np.nan])
    empty = compare(side(np.array([0.1, 0.1]), np.array([1.0, 2.0])), side(nothing, nothing))
    assert empty["e2el_mean_s"].simulated is None
    assert empty["makespan_s"].as_dict()["error_percent"] is None


@pytest.mark.parametrize(
    ("measured", "simulated", "bound", "holds"),
    [
        (1.0, 1.05, Bound(6.0), True),
        (1.0, 0.93, Bound(6.0), False),
        (0.02, 0.029, Bound(20.0, 0.010), True),
        (0.02, 0.031, Bound(20.0, 0.010), False),
        (1.0, None, Bound(6.0), None),
    ],
)
def test_bounds(measured: float, simulated: float | None, bound: Bound, holds: bool | None) -> None:
    assert Figure(measured, simulated, bound).holds is holds


def test_distances() -> None:
    ones = np.array([1.0, 2.0, 3.0, 4.0])
    assert kolmogorov_distance(ones, ones[::-1]) == 0.0
    assert kolmogorov_distance(ones, ones + 10) == 1.0
    assert kolmogorov_distance(ones, np.array([1.0, 2.0, 5.0, np.nan])) == pytest.approx(1 / 3)
    assert kolmogorov_distance(ones, np.array([np.nan])) is None


def test_errors_of_single_requests() -> None:
    first = side(np.array([0.1, 0.3]), np.array([1.1, 2.3]))
    second = side(np.array([0.2, 0.2]), np.array([1.2, 2.2]))
    found = mean_absolute_errors(first, second)
    assert found["ttft"] == pytest.approx((0.1, 50.0))
    assert found["tpot"].mean_absolute_s == pytest.approx(0.0)


def test_the_first_requests_can_be_left_out() -> None:
    rest = without_first(side(np.array([9.0, 0.3]), np.array([10.0, 2.3])), 1)
    assert rest.ttft_s.tolist() == [0.3]
    assert compare(rest, rest)["makespan_s"].measured == pytest.approx(2.8)
