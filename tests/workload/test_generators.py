"""Arrivals follow their rate and burstiness, lengths their distribution, whatever the seed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.errors import InputError, TraceError
from simserve.rng import stream
from simserve.workload import rates
from simserve.workload.arrivals import ArrivalProcess, weibull_shape
from simserve.workload.lengths import Constant, Lengths, LogNormal, Quantiles, Uniform
from simserve.workload.prefixes import zipf_weights
from simserve.workload.rates import RateSchedule

Kind = Literal["constant", "poisson", "gamma", "weibull"]


@pytest.mark.parametrize(
    ("kind", "cv"),
    [("constant", 0.0), ("poisson", 1.0), ("gamma", 0.5), ("gamma", 3.0), ("weibull", 0.5), ("weibull", 2.0)],
)
def test_rate_and_cv_of_gaps(kind: Kind, cv: float) -> None:
    process = ArrivalProcess(kind, rates.constant_rate(20.0), cv or 1.0)
    times = process.draw(stream(11, "test"), 200_000) / 1e9
    gaps = np.diff(times)
    # The mean of n gaps has a relative standard error of cv / sqrt(n): five of them.
    assert gaps.mean() == pytest.approx(1 / 20, rel=max(5 * cv / math.sqrt(len(gaps)), 1e-9))
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.03, abs=1e-7)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    kind=st.sampled_from(["constant", "poisson", "gamma", "weibull"]),
    cv=st.floats(0.3, 4),
    rate=st.floats(0.01, 1e4),
)
def test_arrivals_never_fall_and_have_a_prefix_property(
    seed: int, kind: Kind, cv: float, rate: float
) -> None:
    process = ArrivalProcess(kind, rates.constant_rate(rate), cv)
    times = process.draw(stream(seed, "a"), 300)
    assert len(times) == 300
    assert times[0] >= 0
    assert np.all(np.diff(times) >= 0)
    assert np.array_equal(times[:50], process.draw(stream(seed, "a"), 50))
    end_s = float(times[200]) / 1e9
    within = process.draw(stream(seed, "a"), None, end_s)
    assert np.array_equal(within, times[: len(within)]) or len(within) > 300
    # Rounding to ns can put an arrival just before the end onto it.
    assert abs(len(within) - np.count_nonzero(times < times[200])) <= 1 + np.count_nonzero(
        times == times[200]
    )


@given(st.floats(0.05, 15))
def test_weibull_shape_has_the_cv(cv: float) -> None:
    shape = weibull_shape(cv)
    ratio = math.exp(math.lgamma(1 + 2 / shape) - 2 * math.lgamma(1 + 1 / shape))
    assert math.sqrt(ratio - 1) == pytest.approx(cv, rel=1e-6)


def test_a_weibull_cv_out_of_range_is_refused() -> None:
    with pytest.raises(InputError, match=r"expected 0\.01 to 20"):
        weibull_shape(50)


SCHEDULES: dict[str, RateSchedule] = {
    "steps": rates.steps([(0, 5), (10, 20), (30, 1)]),
    "ramp": rates.ramp(2, 30, 40),
    "sine": rates.sine(10, 8, 20),
    "spikes": rates.spikes(2, 50, 15, 3),
}


@pytest.mark.parametrize(
    ("name", "time_s", "expected"),
    [
        *(("steps", 10, 50), ("steps", 30, 450), ("steps", 40, 460)),
        *(("ramp", 40, 640), ("ramp", 20, 20 * (2 + 16) / 2), ("ramp", 50, 940)),
        *(("sine", 20, 200), ("sine", 10, 100 + 8 * 20 / math.pi), ("sine", 60, 600)),
        *(("spikes", 12, 24), ("spikes", 15, 174), ("spikes", 33, 354)),
    ],
)
def test_expected_arrivals_of_schedules(name: str, time_s: float, expected: float) -> None:
    assert SCHEDULES[name].expected(time_s) == pytest.approx(expected, rel=1e-4)


@given(st.sampled_from(sorted(SCHEDULES)), st.floats(0, 400))
def test_times_are_the_inverse_of_expected(name: str, count: float) -> None:
    schedule = SCHEDULES[name]
    time_s = float(schedule.times_of(np.array([count]))[0])
    assert schedule.expected(time_s) == pytest.approx(count, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_arrivals_follow_a_schedule(name: str) -> None:
    schedule = SCHEDULES[name]
    times = ArrivalProcess("poisson", schedule).draw(stream(3, name), None, 200.0) / 1e9
    edges = np.linspace(0, 200, 21)
    expected = np.diff([schedule.expected(edge) for edge in edges])
    found = np.histogram(times, bins=edges)[0]
    # Poisson counts: 5 standard deviations in each of 20 bins.
    assert np.all(np.abs(found - expected) <= 5 * np.sqrt(expected) + 1)


def test_a_schedule_that_ends_says_so() -> None:
    process = ArrivalProcess("poisson", rates.steps([(0, 10), (5, 0)]))
    with pytest.raises(InputError, match="ends with rate 0 after about 50 requests"):
        process.draw(stream(0, "a"), 1000)
    assert len(process.draw(stream(0, "a"), None, 1e6)) < 100
    with pytest.raises(InputError, match="no arrivals"):
        rates.steps([(0, 0.0)])


def test_rates_from_a_csv(tmp_path: Path) -> None:
    path = tmp_path / "rates.csv"
    path.write_text("time_s,rate_per_s\n0,5\n10,20\n")
    assert rates.read_rates(path).expected(20) == pytest.approx(250)
    path.write_text("time_s,rate_per_s\n0,5\n0,20\n")
    with pytest.raises(TraceError, match=r"rates\.csv:3:1: time_s is '0'; expected times that rise, from 0"):
        rates.read_rates(path)
    path.write_text("time_s,rate_per_s\n0,-5\n")
    with pytest.raises(
        TraceError, match=r"rates\.csv:2:3: rate_per_s is '-5'; expected a finite number, at least 0"
    ):
        rates.read_rates(path)


@pytest.mark.parametrize(
    ("lengths", "mean", "cv"),
    [
        (Constant(7), 7, 0),
        (Uniform(10, 20), 15, math.sqrt(10) / 15),
        (LogNormal.of(300, None, None, 0.8, 1, None), 300, 0.8),
        (LogNormal.of(None, 200, 0.5, None, 1, None), 200 * math.exp(0.125), math.sqrt(math.exp(0.25) - 1)),
        (Quantiles((0, 0.5, 1), (100, 200, 1000)), 0.5 * 150 + 0.5 * 600, None),
    ],
)
def test_length_distributions(lengths: Lengths, mean: float, cv: float | None) -> None:
    draws = lengths.draw(stream(2, "lengths"), 100_000)
    assert draws.mean() == pytest.approx(mean, rel=0.015)
    if cv is not None:
        assert draws.std() / draws.mean() == pytest.approx(cv, rel=0.03, abs=1e-9)


@settings(deadline=None)
@given(
    st.floats(0.1, 1e5), st.floats(0.01, 5), st.integers(1, 50), st.integers(0, 10_000), st.integers(0, 99)
)
def test_lengths_stay_within_their_bounds(
    median: float, sigma: float, low: int, width: int, seed: int
) -> None:
    draws = LogNormal(median, sigma, low, low + width).draw(stream(seed, "x"), 200)
    assert low <= draws.min()
    assert draws.max() <= low + width
    assert LogNormal(median, sigma).draw(stream(seed, "x"), 200).min() >= 1


def test_zipf() -> None:
    assert zipf_weights(4, 0) == (1, 1, 1, 1)
    assert zipf_weights(3, 2) == (1, 1 / 4, 1 / 9)
