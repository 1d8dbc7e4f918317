"""Measured against simulated: figures, their errors, and a verdict on each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from simserve.metrics.columns import Floats, Ints
from simserve.study.measured import Latencies

STATISTICS = ("mean", "p50", "p90", "p95", "p99")
LATENCIES = ("ttft", "tpot", "itl", "e2el")


class Bound(NamedTuple):
    """How far a simulated figure may be from the measured one: by either of the two.

    Attributes:
        percent: Of the measured figure.
        seconds: The difference itself; 0 where only the percentage counts.
    """

    percent: float
    seconds: float = 0.0


# By the first words of a figure's name. Means of TPOT and E2EL are what a planner sizes by; TTFT below
# saturation is one or two steps, of which 10 ms are soon a large share.
MEAN_BOUNDS = {"ttft": Bound(20.0, 0.010), "tpot": Bound(6.0), "itl": Bound(6.0), "e2el": Bound(6.0)}
TAIL_BOUNDS = {"ttft": Bound(20.0, 0.010), "tpot": Bound(8.0), "itl": Bound(8.0), "e2el": Bound(8.0)}
RUN_BOUNDS = {"output_throughput": Bound(5.0), "makespan_s": Bound(5.0)}
KOLMOGOROV_BOUND = 0.1


class Deviation(NamedTuple):
    """Mean over requests of |simulated - measured|.

    Attributes:
        mean_absolute_s: In seconds.
        percent: Of the measured mean.
    """

    mean_absolute_s: float
    percent: float


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of both sides; None is not measured.

    Attributes:
        measured, simulated: In the unit that the figure's name ends with.
        bound: Its bound.
    """

    measured: float | None
    simulated: float | None
    bound: Bound

    @property
    def error_percent(self) -> float | None:
        """Simulated minus measured, in percent of measured."""
        if self.measured is None or self.simulated is None or not self.measured:
            return None
        return 100.0 * (self.simulated - self.measured) / self.measured

    @property
    def holds(self) -> bool | None:
        """Whether the error is within its bound; None where nothing was measured."""
        if self.measured is None or self.simulated is None:
            return None
        error = self.error_percent
        within = error is not None and abs(error) <= self.bound.percent
        return within or abs(self.simulated - self.measured) <= self.bound.seconds

    def as_dict(self) -> dict[str, float | None]:
        """Return the figure as JSON shows it."""
        return {"measured": self.measured, "simulated": self.simulated, "error_percent": self.error_percent}


def compare(measured: Latencies, simulated: Latencies) -> dict[str, Figure]:
    """Return every figure of a run by its name (`ttft_mean_s`, ..., `makespan_s`).

    Both sides hold the same requests in the same order; the simulated one may have failures, which no
    statistic counts.
    """
    figures: dict[str, Figure] = {}
    for name in LATENCIES:
        ours, theirs = _statistics(simulated, name), _statistics(measured, name)
        for statistic in STATISTICS:
            bound = (MEAN_BOUNDS if statistic == "mean" else TAIL_BOUNDS)[name]
            figures[f"{name}_{statistic}_s"] = Figure(theirs.get(statistic), ours.get(statistic), bound)
    for name, find in (("output_throughput", output_throughput), ("makespan_s", makespan_s)):
        figures[name] = Figure(find(measured), find(simulated), RUN_BOUNDS[name])
    return figures


def _statistics(side: Latencies, name: str) -> dict[str, float]:
    if name == "itl":
        if side.gaps_s is None or side.gap_counts is None:
            return {}
        return _weighted(side.gaps_s, side.gap_counts)
    values = {"ttft": side.ttft_s, "tpot": side.tpot_s, "e2el": side.e2el_s}[name]
    values = values[~np.isnan(values)]
    if not len(values):
        return {}
    percentiles = np.percentile(values, [float(key[1:]) for key in STATISTICS[1:]])
    return dict(zip(STATISTICS, [float(values.mean()), *percentiles.tolist()], strict=True))


def _weighted(values: Floats, counts: Ints) -> dict[str, float]:
    """Return the statistics of values that occur several times; percentiles interpolate as numpy's."""
    total = int(counts.sum())
    if not total:
        return {}
    order = np.argsort(values, kind="stable")
    ordered, through = values[order], np.cumsum(counts[order])
    found = {"mean": float(values @ counts) / total}
    for key in STATISTICS[1:]:
        position = (total - 1) * float(key[1:]) / 100
        rank = np.array([np.floor(position), np.ceil(position)])
        low, high = ordered[np.searchsorted(through, rank, side="right")].tolist()
        found[key] = low + (high - low) * (position - rank[0])
    return found


def makespan_s(side: Latencies) -> float | None:
    """Return the seconds from the first due time to the last end; None if nothing completed."""
    ends = side.end_s[~np.isnan(side.end_s)]
    return float(ends.max() - side.due_s.min()) if len(ends) else None


def output_throughput(side: Latencies) -> float | None:
    """Return the completed requests' output tokens per second of the makespan."""
    length = makespan_s(side)
    if not length:
        return None
    return float(side.output_tokens[~np.isnan(side.e2el_s)].sum()) / length


def mean_absolute_errors(measured: Latencies, simulated: Latencies) -> dict[str, Deviation]:
    """Return how far single requests are off, for TTFT, TPOT and E2EL."""
    found = {}
    for name in ("ttft", "tpot", "e2el"):
        theirs, ours = getattr(measured, f"{name}_s"), getattr(simulated, f"{name}_s")
        known = ~np.isnan(theirs) & ~np.isnan(ours)
        if known.any():
            seconds = float(np.abs(ours - theirs)[known].mean())
            found[name] = Deviation(seconds, 100.0 * seconds / float(theirs[known].mean()))
    return found


def kolmogorov_distance(measured: Floats, simulated: Floats) -> float | None:
    """Return the largest distance between two empirical distribution functions, NaN left out."""
    first, second = (np.sort(values[~np.isnan(values)]) for values in (measured, simulated))
    if not len(first) or not len(second):
        return None
    points = np.concatenate((first, second))
    shares = [np.searchsorted(side, points, side="right") / len(side) for side in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max())


def without_first(side: Latencies, requests: int) -> Latencies:
    """Return all but the first requests; gaps between tokens cannot be told apart and are left out."""
    return Latencies(
        side.due_s[requests:],
        side.start_s[requests:],
        side.ttft_s[requests:],
        side.e2el_s[requests:],
        side.output_tokens[requests:],
    )
