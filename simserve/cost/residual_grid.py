"""What a kernel's form misses: the logarithm of measured over predicted time on a regular grid of sizes.

A grid holds one signed byte a node (steps of 1 %), so that the corrections of a GPU stay below 1 MB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import product

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
STEP = 0.01


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a grid.

    Attributes:
        name: The shape column.
        nodes: Its values, ascending, above 0.
    """

    name: str
    nodes: Array

    def place(self, values: Array) -> tuple[npt.NDArray[np.int64], Array]:
        """Return for each value the node at or below it, and how far it lies to the next one, in logarithms.

        Values outside of the axis take its end.
        """
        logs = np.log(self.nodes)
        if len(logs) == 1:
            return np.zeros(len(values), np.int64), np.zeros(len(values))
        wanted = np.log(np.clip(values, self.nodes[0], self.nodes[-1]))
        below = np.clip(np.searchsorted(logs, wanted, side="right") - 1, 0, len(logs) - 2)
        return below, np.clip((wanted - logs[below]) / (logs[below + 1] - logs[below]), 0.0, 1.0)

    def extended(self) -> tuple[Axis, tuple[int, int]]:
        """Return the axis with a few nodes beyond its ends, where no residual was measured, and how many."""
        low = [self.nodes[0] / 8] if self.nodes[0] >= 8 else []
        high = [self.nodes[-1] * factor for factor in (4.0, 64.0)]
        return Axis(self.name, np.concatenate([low, self.nodes, high])), (len(low), len(high))


@dataclass(frozen=True, slots=True)
class ResidualGrid:
    """Logarithms of measured over predicted time.

    Attributes:
        axes: One for each dimension of `steps`.
        steps: Signed bytes, in units of `STEP`.
    """

    axes: tuple[Axis, ...]
    steps: npt.NDArray[np.int8]

    def factors(self, shapes: Mapping[str, Array]) -> Array:
        """Return what to multiply the predicted seconds of each row by."""
        return np.exp(interpolate(self.axes, self.steps, shapes) * STEP)


def corners(axes: tuple[Axis, ...]) -> dict[str, Array]:
    """Return the columns of all nodes, the last axis running fastest."""
    meshes = np.meshgrid(*(axis.nodes for axis in axes), indexing="ij")
    return {axis.name: mesh.reshape(-1) for axis, mesh in zip(axes, meshes, strict=True)}


def nodes_around(axes: tuple[Axis, ...], shapes: Mapping[str, Array]) -> npt.NDArray[np.bool_]:
    """Return which nodes `interpolate` uses for these rows, the last axis running fastest."""
    used = np.zeros([len(axis.nodes) for axis in axes], bool)
    places = [axis.place(np.asarray(shapes[axis.name], dtype=np.float64)) for axis in axes]
    for corner in product((0, 1), repeat=len(axes)):
        index = [
            np.minimum(below + side, len(axis.nodes) - 1)
            for axis, (below, _), side in zip(axes, places, corner, strict=True)
        ]
        weighs = [(far if side else 1 - far) > 0 for (_, far), side in zip(places, corner, strict=True)]
        rows = np.logical_and.reduce(weighs)
        used[tuple(place[rows] for place in index)] = True
    return used.reshape(-1)


def interpolate(
    axes: tuple[Axis, ...], values: npt.NDArray[np.generic], shapes: Mapping[str, Array]
) -> Array:
    """Interpolate values at the nodes, linearly in the logarithm of every axis.

    Between nodes that ascend along an axis the result ascends too.
    """
    columns = [np.asarray(shapes[axis.name], dtype=np.float64) for axis in axes]
    table = np.asarray(values, dtype=np.float64)
    moving: list[tuple[Axis, Array]] = []
    for axis, column in zip(axes, columns, strict=True):
        # A size that all rows share is looked up once.
        if len(column) and column[0] == column[-1] and (column == column[0]).all():
            table = _slice_at(table, len(moving), axis, column[:1])
        else:
            moving.append((axis, column))
    return _blend(table, moving, len(columns[0]))


def _slice_at(table: Array, dimension: int, axis: Axis, value: Array) -> Array:
    """Interpolate away one dimension of a table."""
    below, far = axis.place(value)
    above = min(int(below[0]) + 1, len(axis.nodes) - 1)
    near, next_one = np.take(table, below[0], dimension), np.take(table, above, dimension)
    return np.asarray(near * (1 - far[0]) + next_one * far[0])


def _blend(table: Array, moving: list[tuple[Axis, Array]], count: int) -> Array:
    """Interpolate along the axes whose values differ by row: the corners around each, weighed."""
    places = [axis.place(column) for axis, column in moving]
    flat = table.reshape(-1)
    total = np.zeros(count)
    for corner in product((0, 1), repeat=len(moving)):
        weight = reduce(
            np.multiply,
            (far if side else 1 - far for (_, far), side in zip(places, corner, strict=True)),
            np.ones(count),
        )
        index = np.zeros(count, np.int64)
        for (axis, _), (below, _), side in zip(moving, places, corner, strict=True):
            index = index * len(axis.nodes) + np.minimum(below + side, len(axis.nodes) - 1)
        total += weight * flat[index]
    return total
