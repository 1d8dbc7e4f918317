"""A case: one configuration that a claim compares, at its load or at the highest rate within its bounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt

from simserve.scenario.loader import load_scenario
from simserve.simulation import simulate
from simserve.study.capacity import bracket
from simserve.study.claims.figures import FIGURES

_RATE = "workload.arrivals.rate_per_s"
# Each way from the first rate, before a search gives up.
_MOST_DOUBLINGS = 12
_TOLERANCE = 0.03


@dataclass(frozen=True, slots=True)
class Case:
    """What is run.

    Attributes:
        name: As the tables show it.
        scenario: A shipped one, such as `claims/orca`.
        overrides: Changes, as `--set` takes them.
        figures: What is measured, names of `FIGURES`.
        limits: Figures and what they may be at most; if there are any, the highest rate of arrivals is sought
            at which all hold.
        rate_per_s: Where the search begins.
    """

    name: str
    scenario: str
    overrides: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    limits: tuple[tuple[str, float], ...] = ()
    rate_per_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Found:
    """What a case gave.

    Attributes:
        figures: By name, at the load or at the rate found; None where a figure does not exist.
        rate_per_s: The highest rate of arrivals within the bounds; None if none was sought.
        beyond: The bounded figures at the lowest rate tried that breaks a bound.
        runs: How many simulations it took.
    """

    figures: dict[str, float | None]
    rate_per_s: float | None = None
    beyond: dict[str, float | None] = field(default_factory=dict)
    runs: int = 1


def run_case(case: Case) -> Found:
    """Run a case, or search its highest rate by doubling, halving and bisecting to 3 %.

    Returns:
        What was measured; a rate of 0 and no figures if none within 12 halvings holds.

    Raises:
        InputError: If its scenario is wrong.
    """
    if not case.limits:
        return Found(_measure(case, case.overrides))
    tried: dict[float, dict[str, float | None]] = {}

    def holds(rate: float) -> bool:
        tried[rate] = _measure(case, (*case.overrides, f"{_RATE}={rate!r}"))
        return all((value := tried[rate][key]) is not None and value <= most for key, most in case.limits)

    low, failing = bracket(case.rate_per_s, holds, _MOST_DOUBLINGS)
    high = low if failing is None else failing
    while low and high / low > 1 + _TOLERANCE:
        middle = float(f"{sqrt(low * high):.4g}")
        low, high = (middle, high) if holds(middle) else (low, middle)
    beyond = {key: tried[high][key] for key, _ in case.limits} if high > low else {}
    return Found(tried[low] if low else {}, low, beyond, len(tried))


def _measure(case: Case, overrides: tuple[str, ...]) -> dict[str, float | None]:
    result = simulate(load_scenario(case.scenario, overrides))
    wanted = dict.fromkeys((*case.figures, *(key for key, _ in case.limits)))
    return {name: FIGURES[name](result) for name in wanted}
