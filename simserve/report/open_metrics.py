"""Time series as OpenMetrics text: gauges, counters and histograms, each sampled at the same moments.

One family's lines stay together, and one series' samples are in order of time, as the format wants it
(https://github.com/prometheus/OpenMetrics, version 1.0).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from simserve.report.run_folder import Floats


class Events(NamedTuple):
    """What was counted or measured: when, and how much of it."""

    times_s: Floats
    values: Floats


class Series(NamedTuple):
    """One series of a counter or a histogram: its labels (`a="x",b="y"`), and what adds to it."""

    labels: str
    events: Events


def family_lines(name: str, kind: str, text: str) -> Iterator[str]:
    """Yield what stands above the samples of a family; its unit if its name ends in one."""
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    if name.endswith("_seconds"):
        yield f"# UNIT {name} seconds"


def gauge_lines(name: str, labels: str, moments: Floats, at_s: Floats, values: Floats) -> Iterator[str]:
    """Yield the samples of one gauge: each value holds from its time until the next, 0 before the first."""
    held = np.concatenate(([0.0], values))[np.searchsorted(at_s, moments, side="right")]
    for moment, value in zip(moments.tolist(), held.tolist(), strict=True):
        yield f"{name}{{{labels}}} {value:.10g} {moment:.3f}"


def counter_lines(name: str, moments: Floats, series: Sequence[Series]) -> Iterator[str]:
    """Yield the samples of a counter, what has been added up to each moment."""
    for labels, events in series:
        times, total = _added_up(events)
        sums = total[np.searchsorted(times, moments, side="right")]
        for moment, value in zip(moments.tolist(), sums.tolist(), strict=True):
            yield f"{name}_total{{{labels}}} {value:.10g} {moment:.3f}"


def histogram_lines(
    name: str, moments: Floats, bounds: Sequence[float], series: Sequence[Series]
) -> Iterator[str]:
    """Yield the samples of a histogram: how many measurements up to each moment are at most each bound."""
    for labels, events in series:
        times, total = _added_up(events)
        values = events.values[np.argsort(events.times_s, kind="stable")]
        below = [np.concatenate(([0], np.cumsum(values <= bound))) for bound in bounds]
        seen = np.searchsorted(times, moments, side="right")
        for moment, count in zip(moments.tolist(), seen.tolist(), strict=True):
            for bound, cumulative in zip(bounds, below, strict=True):
                number = int(cumulative[count])
                yield f'{name}_bucket{{{labels},le="{float(bound)}"}} {number} {moment:.3f}'
            yield f'{name}_bucket{{{labels},le="+Inf"}} {count} {moment:.3f}'
            yield f"{name}_count{{{labels}}} {count} {moment:.3f}"
            yield f"{name}_sum{{{labels}}} {total[count]:.10g} {moment:.3f}"


def _added_up(events: Events) -> tuple[Floats, Floats]:
    """Return the times in order, and what all up to the first n of them add up to, for n from 0 on."""
    order = np.argsort(events.times_s, kind="stable")
    return events.times_s[order], np.concatenate(([0.0], np.cumsum(events.values[order])))
