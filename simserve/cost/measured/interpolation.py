"""Interpolates measured times in logarithms, inside the measured range only."""

from __future__ import annotations

import numpy as np

from simserve.cost.kernels.form import Array


def interpolate_inside(points: Array, seconds: Array, wanted: Array) -> Array:
    """Interpolate log seconds over the logarithms of scattered axes; NaN outside the measured range.

    The axes are nested: along the last one, the points that share all other coordinates form a line, on
    which times are interpolated linearly in logarithms; lines are then interpolated along the axis before,
    between the nearest below and above that hold the wanted value. So a grid may have holes, and a line may
    be shorter than its neighbours.

    Args:
        points: Coordinates of the measurements, [measurements, axes], 0 or more.
        seconds: Their times, above 0, [measurements]; several at one point count by their geometric mean.
        wanted: Coordinates to price, [rows, axes].

    Returns:
        Seconds, [rows]; NaN where no measurements surround the row.
    """
    # log(1 + x): a prefix of 0 tokens is a coordinate like any other; above it differs little from log(x).
    return np.exp(_interpolate(np.log1p(points), np.log(seconds), np.log1p(wanted)))


def _interpolate(points: Array, values: Array, wanted: Array) -> Array:
    if points.shape[1] == 1:
        nodes, inverse = np.unique(points[:, 0], return_inverse=True)
        inverse = inverse.reshape(-1)
        means = np.bincount(inverse, weights=values) / np.bincount(inverse)
        return np.interp(wanted[:, 0], nodes, means, left=np.nan, right=np.nan)
    nodes, inverse = np.unique(points[:, 0], return_inverse=True)
    inverse = inverse.reshape(-1)
    lines = np.full((len(nodes), len(wanted)), np.nan)
    for line in range(len(nodes)):
        members = inverse == line
        lines[line] = _interpolate(points[members, 1:], values[members], wanted[:, 1:])
    return _between_lines(nodes, lines, wanted[:, 0])


def _between_lines(nodes: Array, lines: Array, wanted: Array) -> Array:
    """Interpolate along the first axis between the nearest lines, below and above, that have a value."""
    known = ~np.isnan(lines)
    below = known & (nodes[:, None] <= wanted[None, :])
    above = known & (nodes[:, None] >= wanted[None, :])
    low = len(nodes) - 1 - np.argmax(below[::-1], axis=0)
    high = np.argmax(above, axis=0)
    columns = np.arange(len(wanted))
    gap = nodes[high] - nodes[low]
    share = np.divide(wanted - nodes[low], gap, out=np.zeros_like(wanted), where=gap > 0)
    first, second = lines[low, columns], lines[high, columns]
    inside = below.any(axis=0) & above.any(axis=0)
    return np.where(inside, first + share * (second - first), np.nan)
