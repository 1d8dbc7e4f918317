"""Arrival rates over time, and the moments at which given numbers of arrivals are expected."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from simserve.errors import InputError, TraceError
from simserve.workload.csv_rows import read_csv

FloatColumn: TypeAlias = NDArray[np.float64]

# A sine is drawn as this many straight lines; the integrated rate is off by less than 1e-4 of a period's
# arrivals.
_SINE_LINES = 512


class RateSchedule:
    """A rate that is piecewise linear in time, with jumps where two knots share a time.

    Behind the last knot it starts again (`periodic`) or stays at its last value.

    Args:
        times_s: Knots, shape (n,), from 0, non-decreasing, n >= 1.
        rates_per_s: Rate at each, shape (n,), at least 0.
        periodic: Whether the last knot is the end of a period.
    """

    def __init__(self, times_s: FloatColumn, rates_per_s: FloatColumn, periodic: bool = False) -> None:
        times_s, rates_per_s = times_s.astype(np.float64), rates_per_s.astype(np.float64)
        self._times = times_s
        self._rates = rates_per_s
        self._periodic = periodic
        areas = np.diff(times_s) * (rates_per_s[1:] + rates_per_s[:-1]) / 2
        self._expected = np.concatenate(([0.0], np.cumsum(areas)))
        if self._total() <= 0:
            raise InputError("the rate schedule has no arrivals; expected a rate above 0 somewhere")

    def expected(self, time_s: float) -> float:
        """Return the number of arrivals expected from 0 to a time."""
        end, periods = float(self._times[-1]), 0.0
        if self._periodic:
            periods, time_s = divmod(time_s, end)
        elif time_s > end:
            return float(self._expected[-1] + (time_s - end) * self._rates[-1])
        index = max(0, int(np.searchsorted(self._times, time_s, side="right")) - 1)
        width = time_s - self._times[index]
        slope = self._slopes()[index]
        return float(
            periods * self._expected[-1]
            + self._expected[index]
            + width * (self._rates[index] + slope * width / 2)
        )

    def times_of(self, counts: FloatColumn) -> FloatColumn:
        """Return when given numbers of arrivals are expected since 0: the inverse of `expected`.

        Args:
            counts: Shape (n,), at least 0.

        Raises:
            InputError: If the schedule ends at rate 0 before so many.
        """
        whole, offset = np.zeros_like(counts), 0.0
        if self._periodic:
            whole = np.floor(counts / self._expected[-1])
            counts = counts - whole * self._expected[-1]
            offset = float(self._times[-1])
        elif self._rates[-1] == 0 and len(counts) and counts.max() >= self._expected[-1]:
            few = int(self._expected[-1])
            raise InputError(
                f"the rate schedule ends with rate 0 after about {few} requests; more are asked for"
            )
        index = np.searchsorted(self._expected, counts, side="right") - 1
        rate, slope, missing = self._rates[index], self._slopes()[index], counts - self._expected[index]
        # The root of rate*w + slope*w^2/2 = missing, in the form that does not cancel.
        root = np.sqrt(np.maximum(rate * rate + 2 * slope * missing, 0))
        total = rate + root
        width = np.divide(2 * missing, total, out=np.zeros_like(total), where=total > 0)
        result: FloatColumn = self._times[index] + width + whole * offset
        return result

    def _slopes(self) -> FloatColumn:
        widths = np.diff(self._times)
        rises = np.diff(self._rates)
        return np.concatenate((np.divide(rises, widths, out=np.zeros_like(rises), where=widths > 0), [0.0]))

    def _total(self) -> float:
        return float(self._expected[-1] + (0 if self._periodic else self._rates[-1]))


def constant_rate(rate_per_s: float) -> RateSchedule:
    """Return a rate that never changes."""
    return RateSchedule(np.zeros(1), np.array([rate_per_s]))


def steps(points: list[tuple[float, float]]) -> RateSchedule:
    """Return a rate that jumps: (time_s, rate_per_s) pairs, rising in time from 0; the last rate stays."""
    times = np.array([time for time, _ in points])
    rates = np.array([rate for _, rate in points])
    return RateSchedule(np.repeat(times, 2)[1:], np.repeat(rates, 2)[:-1])


def ramp(from_per_s: float, to_per_s: float, over_s: float) -> RateSchedule:
    """Return a rate that changes linearly over `over_s` and then stays."""
    return RateSchedule(np.array([0.0, over_s]), np.array([from_per_s, to_per_s]))


def sine(mean_per_s: float, amplitude_per_s: float, period_s: float) -> RateSchedule:
    """Return a rate that swings around its mean, from the mean upwards."""
    phase = np.linspace(0, 1, _SINE_LINES + 1)
    rates = np.maximum(mean_per_s + amplitude_per_s * np.sin(2 * np.pi * phase), 0)
    return RateSchedule(phase * period_s, rates, periodic=True)


def spikes(base_per_s: float, spike_per_s: float, every_s: float, spike_s: float) -> RateSchedule:
    """Return a rate that jumps to `spike_per_s` for the last `spike_s` of every period of `every_s`."""
    start = every_s - spike_s
    times = np.array([0.0, start, start, every_s])
    return RateSchedule(times, np.array([base_per_s, base_per_s, spike_per_s, spike_per_s]), periodic=True)


def read_rates(path: Path) -> RateSchedule:
    """Read a CSV of time_s,rate_per_s: each rate holds until the next time, the last one for good.

    Raises:
        TraceError: If a row is broken or times do not rise from 0.
    """
    points: list[tuple[float, float]] = []
    for row in read_csv(path, ("time_s", "rate_per_s")):
        time_s = row.number_at_least_0("time_s")
        if (points and time_s <= points[-1][0]) or (not points and time_s != 0):
            row.fail("time_s", "expected times that rise, from 0")
        points.append((time_s, row.number_at_least_0("rate_per_s")))
    if not points:
        raise TraceError("the schedule has no rows", file=str(path))
    return steps(points)
