"""Tables over two sizes that a step looks up: values at knots, linear between them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from simserve.cost.timer import Chunk

Array = npt.NDArray[np.float64]


def spread_knots(first: int, last: int, per_octave: int) -> list[int]:
    """Return whole numbers from `first` to `last`, both included, about `per_octave` in each doubling."""
    octaves = int(np.ceil(np.log2(last / first)))
    values = first * np.exp2(np.arange(octaves * per_octave + 1) / per_octave)
    return sorted({*(round(float(value)) for value in values if value < last), first, last})


def ascending(values: Array) -> Array:
    """Return values that never fall along any axis: each is at least all that come before it."""
    for axis in range(values.ndim):
        values = np.maximum.accumulate(values, axis=axis)
    return values


class PairGrid:
    """Two values on a grid of two sizes, bilinear between its knots; beyond the last the last slope goes on.

    Between four knots each value is `a + b x + c y + d x y`: a look-up costs two searches and a few products.

    Args:
        first, second: Knots of both sizes, ascending.
        one, other: A value of each kind for each pair of knots.

    Attributes:
        first_bounds, second_bounds: Knots at which the cells after the first begin.
        cells: For each cell the four coefficients of `one`, then those of `other`.
    """

    __slots__ = ("cells", "first_bounds", "second_bounds")

    def __init__(self, first: list[int], second: list[int], one: Array, other: Array) -> None:
        self.first_bounds = first[1:-1]
        self.second_bounds = second[1:-1]
        x, y = np.array(first, np.float64)[:, None], np.array(second, np.float64)[None, :]
        parts = [*_coefficients(x, y, one), *_coefficients(x, y, other)]
        self.cells: list[list[list[float]]] = np.stack(parts, axis=-1).tolist()


def chunks_s(grid: PairGrid, chunks: Sequence[Chunk]) -> float:
    """Seconds of prefill chunks: of the longest alone, or of all shares together, whichever is more."""
    longest = shares = 0.0
    first, second, cells = grid.first_bounds, grid.second_bounds, grid.cells
    for tokens, history in chunks:
        c = cells[bisect_right(first, tokens)][bisect_right(second, history)]
        product = tokens * history
        alone = c[0] + c[1] * tokens + c[2] * history + c[3] * product
        if alone > longest:
            longest = alone
        shares += c[4] + c[5] * tokens + c[6] * history + c[7] * product
    return shares if shares > longest else longest


def _coefficients(x: Array, y: Array, values: Array) -> tuple[Array, Array, Array, Array]:
    """Return a, b, c and d of every cell."""
    x0, y0 = x[:-1], y[:, :-1]
    wide, high = x[1:] - x0, y[:, 1:] - y0
    corner = values[:-1, :-1]
    along_x = (values[1:, :-1] - corner) / wide
    along_y = (values[:-1, 1:] - corner) / high
    both = ((values[1:, 1:] - values[:-1, 1:]) / wide - along_x) / high
    return (
        corner - along_x * x0 - along_y * y0 + both * x0 * y0, along_x - both * y0, along_y - both * x0, both,
    )  # fmt: skip


class Grid:
    """Values on a grid of two sizes, bilinear between its knots; beyond the last the last slope goes on.

    Args:
        first, second: Knots of both sizes, ascending.
        values: One for each pair of knots.
    """

    __slots__ = ("_first", "_second", "_values")

    def __init__(self, first: list[int], second: list[int], values: Array) -> None:
        self._first = [float(knot) for knot in first]
        self._second = [float(knot) for knot in second]
        self._values: list[list[float]] = values.tolist()

    def row(self, first: float) -> list[float]:
        """Return the values at the second size's knots for one first size."""
        knots = self._first
        i = min(max(bisect_right(knots, first), 1), len(knots) - 1)
        share = (first - knots[i - 1]) / (knots[i] - knots[i - 1])
        low, high = self._values[i - 1], self._values[i]
        return [a + share * (b - a) for a, b in zip(low, high, strict=True)]


def extend_linearly(at: float, knots: list[int], values: list[float]) -> float:
    """Return the value at `at`: linear between knots, constant before the first, the last slope beyond."""
    if at <= knots[0]:
        return values[0]
    index = min(bisect_right(knots, at), len(knots) - 1)
    slope = (values[index] - values[index - 1]) / (knots[index] - knots[index - 1])
    return values[index - 1] + slope * (at - knots[index - 1])
