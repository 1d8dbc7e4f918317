"""Nanoseconds of steps as a function of the contexts that they read."""

from __future__ import annotations

from bisect import bisect_right

from simserve.cost.attention_tables import CONTEXT_KNOTS

_NS = 1e9


class ContextLine:
    """Nanoseconds as a piecewise linear function of summed contexts, for one number of decodes.

    Attributes:
        bounds: Sums of context at which the pieces after the first begin.
        starts, slopes: Of each piece: nanoseconds at context 0, and for each token.
        least: The shortest step that the host allows.
    """

    __slots__ = ("bounds", "least", "slopes", "starts")

    def __init__(self, decodes: int, seconds: list[float], base_ns: float, least: int) -> None:
        knots = [knot * decodes for knot in CONTEXT_KNOTS]
        values = [_NS * value for value in seconds]
        # Below one token a request nothing falls any more; beyond the last knot the last slope goes on.
        self.bounds: list[int] = knots[:-1]
        self.starts: list[float] = [base_ns + values[0]]
        self.slopes: list[float] = [0.0]
        for index in range(1, len(knots)):
            slope = (values[index] - values[index - 1]) / (knots[index] - knots[index - 1])
            self.starts.append(base_ns + (values[index - 1] - slope * knots[index - 1]))
            self.slopes.append(slope)
        self.least = least

    def at(self, context: int) -> float:
        """Return the nanoseconds for one sum of contexts."""
        piece = bisect_right(self.bounds, context)
        return self.starts[piece] + self.slopes[piece] * context
