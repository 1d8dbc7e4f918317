"""Figures over several seeds: mean and 95 % confidence interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any, NamedTuple

from simserve.report.table import format_number, print_table

# 97.5 % quantiles of Student's t for 1 to 30 degrees of freedom (any table of the distribution).
_T_975 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
_Z_975 = 1.959964


class Interval(NamedTuple):
    """Mean of a figure and half the width of its 95 % confidence interval."""

    mean: float
    half_width: float


def intervals(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Interval]:
    """Return the interval of every number that all summaries have; at least two summaries."""
    found = {}
    for key in summaries[0]:
        values = [summary.get(key) for summary in summaries]
        if key != "seed" and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            numbers = [float(value) for value in values if value is not None]
            spread = stdev(numbers) / math.sqrt(len(numbers))
            found[key] = Interval(fmean(numbers), t_quantile(len(numbers) - 1) * spread)
    return found


def print_intervals(summaries: Sequence[Mapping[str, Any]]) -> None:
    """Print mean, interval and range of every figure over the seeds."""
    rows = []
    for key, interval in intervals(summaries).items():
        values = [summary[key] for summary in summaries]
        share = f"{interval.half_width / abs(interval.mean):.1%}" if interval.mean else "-"
        figures = (interval.mean, interval.half_width, min(values), max(values))
        rows.append([key, *map(format_number, figures[:2]), share, *map(format_number, figures[2:])])
    print_table((f"over {len(summaries)} seeds", "mean", "± 95 %", "of mean", "least", "most"), rows)
    if not any(interval.half_width for interval in intervals(summaries).values()):
        print("every seed gave the same figures: nothing in this scenario is drawn at random")


def t_quantile(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t distribution.

    Above 30 degrees of freedom from the normal quantile by two terms of its Cornish-Fisher expansion
    (Abramowitz & Stegun 26.7.5), which is right to 1e-3 there.
    """
    if freedom <= len(_T_975):
        return _T_975[freedom - 1]
    z = _Z_975
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
