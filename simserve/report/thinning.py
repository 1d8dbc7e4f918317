"""Fewer points for a plot, with every spike kept."""

from __future__ import annotations

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
    kept = [
        place
        for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
        if end > begin
        for place in sorted(
            {begin, begin + int(y[begin:end].argmin()), begin + int(y[begin:end].argmax()), end - 1}
        )
    ]
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
