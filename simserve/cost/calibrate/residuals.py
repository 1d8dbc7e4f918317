"""Fits a grid of residuals to what a form misses: a smooth of measured over predicted times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simserve.cost.calibrate.family import NOISE
from simserve.cost.kernels.form import Array, Shapes
from simserve.cost.residual_grid import STEP, Axis, ResidualGrid, corners, nodes_around

# Nodes of one grid; a byte each.
MAX_NODES = 16_000
# Points that a node's value is estimated from.
NEIGHBOURS = 24
# Scaled logarithmic distance over which the correlation of two residuals falls to 1/e.
LENGTH = 3.0
# A residual further from the median of so many neighbours than so many of their median deviations (at least
# the floor) is a slip of the measurement: it counts as if it lay there.
_PEERS, _DEVIATIONS, _FLOOR = 12, 3.0, 0.1
# Largest correction, a factor of e.
_LIMIT = 1.0
# Nodes estimated at a time, so that their systems of equations take little memory.
_CHUNK = 2000


def fit_residuals(
    axes: Sequence[tuple[str, float]],
    shapes: Shapes,
    log_ratios: Array,
    noise: float = NOISE,
    wanted: Shapes | None = None,
) -> ResidualGrid:
    """Fit a grid.

    Args:
        axes: Shape columns, each with the weight of a distance along its logarithm.
        shapes: Columns of the fitted rows.
        log_ratios: Logarithm of measured over predicted seconds.
        noise: Share of a residual's variance that no neighbour tells of.
        wanted: Rows that the grid will be asked for; its other nodes are left 0. None: all nodes.
    """
    names = [name for name, _ in axes]
    scale = np.array([weight for _, weight in axes]) / LENGTH
    points = np.log(np.column_stack([shapes[name] for name in names])) * scale
    grid_axes = place_axes(names, shapes)
    nodes = np.log(np.column_stack(list(corners(grid_axes).values()))) * scale
    # Where a family says that its rows have hardly any noise, there are no slips to be told from jumps.
    known = clip_slips(points, log_ratios) if noise >= NOISE else log_ratios
    needed = slice(None) if wanted is None else nodes_around(grid_axes, wanted)
    values = np.zeros(len(nodes))
    values[needed] = krige(points, known, nodes[needed], noise)
    steps = np.rint(np.clip(values, -_LIMIT, _LIMIT) / STEP).astype(np.int8)
    return ResidualGrid(grid_axes, steps.reshape([len(axis.nodes) for axis in grid_axes]))


def clip_slips(points: Array, values: Array) -> Array:
    """Return values with single outliers brought near to their neighbours' median.

    Args:
        points: Where the values are known, [points, axes].
        values: One for each of them.
    """
    from scipy.spatial import cKDTree

    _, index = cKDTree(points).query(points, k=min(_PEERS, len(points)))
    peers = values[index.reshape(len(points), -1)]
    middle = np.median(peers, axis=1)
    width = np.maximum(_FLOOR, _DEVIATIONS * np.median(np.abs(peers - middle[:, None]), axis=1))
    return np.clip(values, middle - width, middle + width)


def krige(points: Array, values: Array, wanted: Array, noise: float = NOISE) -> Array:
    """Estimate a field of mean 0 at `wanted` from the nearest of `points` (simple local kriging).

    The correlation of two places is exp(-distance), less the share `noise` unless they are one; far from all
    points the estimate goes to 0.

    Args:
        points: Where values are known, [points, axes].
        values: One for each of them.
        wanted: Where to estimate, [wanted, axes].
        noise: From 0 to 1.
    """
    from scipy.spatial import cKDTree

    count = min(NEIGHBOURS, len(points))
    distance, index = cKDTree(points).query(wanted, k=count)
    distance, index = distance.reshape(-1, count), index.reshape(-1, count)
    result = np.empty(len(wanted))
    for start in range(0, len(wanted), _CHUNK):
        part = slice(start, start + _CHUNK)
        near = points[index[part]]
        between = np.sqrt(((near[:, :, None, :] - near[:, None, :, :]) ** 2).sum(axis=-1))
        matrix = np.exp(-between) * (1 - noise) + noise * np.eye(count)
        weights = np.linalg.solve(matrix, (1 - noise) * np.exp(-distance[part])[:, :, None])[:, :, 0]
        result[part] = (weights * values[index[part]]).sum(axis=1)
    return result


def place_axes(names: Sequence[str], shapes: Shapes) -> tuple[Axis, ...]:
    """Choose the nodes of each axis: its values, or quantiles of them where there are too many."""
    values = [np.unique(shapes[name]) for name in names]
    limit = max(map(len, values))
    while np.prod([min(len(column), limit) for column in values]) > MAX_NODES and limit > 2:
        limit -= 1
    return tuple(
        Axis(name, column if len(column) <= limit else _spread(column, limit))
        for name, column in zip(names, values, strict=True)
    )


def _spread(values: Array, count: int) -> Array:
    """Values at `count` even ranks, both ends among them."""
    return np.unique(values[np.rint(np.linspace(0, len(values) - 1, count)).astype(int)])
