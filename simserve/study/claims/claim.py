"""A claim: what a paper says, the cases that test it, and how their figures become rows of a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from simserve.study.claims.case import Case, Found

# Figures this near to what is claimed agree: two engines of one policy, measured by others, differ as much.
NEAR = 1.25


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of a paper.

    Attributes:
        what: Which.
        claimed: As the paper gives it.
        least, most: The range that this is; None: open.
        simulated: What the simulation gives; None if it gives none.
        form: How the figure is written, a format such as `{:.1f}x`.
    """

    what: str
    claimed: str
    least: float | None
    most: float | None
    simulated: float | None
    form: str = "{:.1f}x"

    @property
    def verdict(self) -> str:
        """`agrees` within a factor of 1.25 of the claimed range, else which way it misses."""
        if self.simulated is None:
            return "**miss**: none"
        if self.least is not None and self.simulated < self.least / NEAR:
            return "**miss**: less"
        if self.most is not None and self.simulated > self.most * NEAR:
            return "**miss**: more"
        return "agrees"


@dataclass(frozen=True, slots=True)
class Claim:
    """What one paper says.

    Attributes:
        key: Its name on the command line and on the page.
        cases: What is run.
        judge: Makes the rows from what the cases gave, by their names.
    """

    key: str
    cases: tuple[Case, ...]
    judge: Callable[[Mapping[str, Found]], list[Row]]


def divide(above: float | None, below: float | None) -> float | None:
    """Return a ratio; None if either figure is missing or 0."""
    return above / below if above and below else None


def ratio_of_rates(found: Mapping[str, Found], better: str, worse: str) -> float | None:
    """Return how many times the rate of one case another one sustains; None if one sustains none."""
    return divide(found[better].rate_per_s, found[worse].rate_per_s)


def ratio_of(found: Mapping[str, Found], figure: str, better: str, worse: str) -> float | None:
    """Return how many times a figure of one case that of another is; None if either is missing."""
    return divide(found[better].figures.get(figure), found[worse].figures.get(figure))


def best_rate(found: Mapping[str, Found], *names: str) -> float | None:
    """Return the highest rate of some cases; None if none sustains any."""
    return max((found[name].rate_per_s or 0.0 for name in names), default=0.0) or None
