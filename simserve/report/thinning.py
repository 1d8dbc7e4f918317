"""Fewer points for a plot, with every spike kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simserve.report.run_folder import Column, Floats, Ints


def thin_series(x: Floats, y: Column, most: int) -> tuple[Floats, Column]:
    """Return at most `most` points of a series: of each part its first, lowest, highest and last value.

    Args:
        x: `[n]`, ascending.
        y: `[n]`.
        most: Points to keep, 4 at least.
    """
    if len(x) <= most:
        return x, y
    edges = np.linspace(0, len(x), most // 4 + 1).astype(np.int64)
    begins = edges[:-1]
    part = np.repeat(np.arange(len(begins)), np.diff(edges))
    order = np.lexsort((y, part))
    # Within a part the order is that of the values: its lowest is first, its highest last.
    kept = np.unique(np.concatenate((begins, order[begins], order[edges[1:] - 1], edges[1:] - 1)))
    return x[kept], y[kept]


def thin_distribution(values: Floats, most: int, counts: Ints | None = None) -> tuple[Floats, Floats]:
    """Return the points of a cumulative distribution: values and shares, dense in the tails.

    Args:
        values: `[n]`, without NaN.
        most: Points to keep.
        counts: `[n]`, how often each value is there; None: once.
    """
    if not len(values):
        return values, values
    # Half of the points evenly, half towards the upper tail, where percentiles are read.
    even = np.linspace(0.0, 1.0, most // 2)
    total = len(values) if counts is None else int(counts.sum())
    tail = 1.0 - np.geomspace(1.0, 1.0 / max(total, 2), most // 2)
    shares = np.unique(np.concatenate((even, tail, [1.0])))
    if counts is None:
        return np.asarray(np.quantile(values, shares)), shares
    order = np.argsort(values, kind="stable")
    reached = np.searchsorted(np.cumsum(counts[order]), np.ceil(shares * total))
    return values[order][np.minimum(reached, len(values) - 1)], shares


def thin_rows(count: int, most: int) -> Column:
    """Return at most `most` row numbers of `count`, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def binned_percentiles(
    at: Floats, values: Floats, edges: Floats, shares: Sequence[float], *, counts: Ints | None = None
) -> Floats:
    """Return percentiles of the values in each interval: the smallest that so large a share does not exceed.

    Args:
        at: `[n]`, where each value belongs; inside of the edges.
        values: `[n]`.
        edges: `[bins + 1]`, ascending.
        shares: Which percentiles, from 0 to 1.
        counts: `[n]`, how often each value is there; None: once.

    Returns:
        `[shares, bins]`, NaN where an interval is empty.
    """
    bins = len(edges) - 1
    place = np.clip(np.searchsorted(edges, at, side="right") - 1, 0, bins - 1)
    # Grouped by small integers, then sorted group by group: several times as fast as one sort by both.
    order = np.argsort(place.astype(np.int32), kind="stable")
    groups = np.split(order, np.searchsorted(place[order], np.arange(1, bins)))
    order = np.concatenate([group[np.argsort(values[group], kind="stable")] for group in groups])
    many = np.ones(len(values), np.int64) if counts is None else counts
    reached = np.cumsum(many[order])
    total = np.bincount(place, weights=many, minlength=bins)
    before = np.cumsum(total) - total
    found = np.full((len(shares), bins), np.nan)
    some = np.flatnonzero(total > 0)
    for row, share in enumerate(shares):
        wanted = before[some] + np.maximum(np.ceil(share * total[some]), 1)
        found[row, some] = values[order][np.searchsorted(reached, wanted)]
    return found
