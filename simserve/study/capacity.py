"""`capacity`: the highest request rate at which a scenario keeps its objectives.

A rate that holds and one that does not are found by doubling or halving, then the interval is halved in the
logarithm. Each seed has a search of its own; their probes run side by side, and so do those that one search
may ask for next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

from simserve.errors import InputError, SimulationError
from simserve.scenario.schema import Scenario
from simserve.study.executor import Executor, InProcess
from simserve.study.load import load_of
from simserve.study.probe import Probe, ProbeTask, natural_rate
from simserve.study.search import Answers, Q, UnansweredError, run_searches
from simserve.study.slo_terms import SloTerm

# Each way from the scenario's own rate.
_MOST_DOUBLINGS = 20
# (index of the search, rate)
_Question = tuple[int, float]


@dataclass(frozen=True, slots=True)
class Capacity:
    """What one search found.

    Attributes:
        seed: Of the scenario.
        rate_per_s: Highest rate that holds; 0 if none did.
        fails_at_per_s: Lowest rate tried that does not hold, or that the requests do not offer; None if none.
        probes: All that were tried, in order.
        stopped: Whether it was interrupted: the rates are those so far.
    """

    seed: int
    rate_per_s: float
    fails_at_per_s: float | None
    probes: tuple[Probe, ...]
    stopped: bool = False

    @property
    def held(self) -> Probe | None:
        """The probe at the highest rate that holds; None if none did."""
        return next((probe for probe in self.probes if probe.rate_per_s == self.rate_per_s), None)

    @property
    def failing(self) -> Probe | None:
        """The probe at the lowest rate that does not hold; None if none failed."""
        return next((probe for probe in self.probes if probe.rate_per_s == self.fails_at_per_s), None)

    def as_dict(self) -> dict[str, Any]:
        """Return it in the form of `simserve capacity --json`."""
        return asdict(self)


def find_capacities(
    scenarios: Sequence[Scenario],
    slo: Sequence[SloTerm],
    executor: Executor | None = None,
    *,
    tolerance: float = 0.02,
    tried: Callable[[int, Probe], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[Capacity, ...]:
    """Bracket and bisect the highest rate at which each scenario holds.

    What is found, and by which probes, does not depend on the executor.

    Args:
        scenarios: One a seed.
        slo: Terms that must hold.
        executor: Where probes run; None: here.
        tolerance: How far above the found rate the next one that fails may be, relative to it.
        tried: Called with the number of the scenario after each probe, in the searches' order.
        progress: Called with how many probes have ended.

    Raises:
        InputError: If the requests have no arrival times to stretch, or cannot be simulated.
        SimulationError: If a simulation failed.
    """
    naturals = [natural_rate(load_of(scenario)) for scenario in scenarios]

    def task_of(question: _Question) -> ProbeTask:
        return ProbeTask(scenarios[question[0]], tuple(slo), question[1])

    def tell(question: _Question, probe: Probe) -> None:
        if probe.error:
            raise (InputError if probe.bad_input else SimulationError)(probe.error)
        if tried is not None:
            tried(question[0], probe)

    searches = [_searching(number, natural, tolerance) for number, natural in enumerate(naturals)]
    done = run_searches(searches, task_of, executor or InProcess(), told=tell, progress=progress)
    return tuple(
        Capacity(scenario.seed, low, high, tuple(probe for _, probe in path), bool(done.stopped))
        for scenario, (low, high), path in zip(scenarios, done.found, done.paths, strict=True)
    )


def find_capacity(scenario: Scenario, slo: Sequence[SloTerm], *, tolerance: float = 0.02) -> Capacity:
    """Return one scenario's capacity; see `find_capacities`."""
    return find_capacities([scenario], slo, tolerance=tolerance)[0]


def _searching(
    number: int, natural: float, tolerance: float
) -> Callable[[Answers[_Question]], tuple[float, float | None]]:
    """Return the search of one scenario."""

    def search(answers: Answers[_Question]) -> tuple[float, float | None]:
        held: list[float] = [0.0]
        failed: list[float] = []

        def ask(rate: float) -> bool:
            answer = shows_rate(answers, (number, rate))
            (held if answer else failed).append(rate)
            return answer

        with suppress(UnansweredError):
            return bisect_rate(ask, natural, tolerance)
        return max(held), min(failed, default=None)

    return search


def shows_rate(answers: Answers[Q], question: Q) -> bool:
    """Ask a question of a rate: one that the requests do not offer is none that is shown to hold."""
    holds = answers(question)
    probe: Probe | None = answers.known.get(question)
    return holds and not (probe is not None and probe.unoffered)


def bisect_rate(
    holds: Callable[[float], bool], natural: float, tolerance: float
) -> tuple[float, float | None]:
    """Return the highest rate that holds (0: none) and the lowest that does not (None: none).

    Args:
        holds: Asked for rates.
        natural: The rate to begin with.
        tolerance: How far apart the two may be, relative to the lower.
    """
    low, high = bracket(natural, holds)
    while low and high is not None and high / low > 1 + tolerance:
        middle = sqrt(low * high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low, high


def bracket(
    natural: float, holds: Callable[[float], bool], doublings: int = _MOST_DOUBLINGS
) -> tuple[float, float | None]:
    """Double or halve from a rate, so often at most: the highest that holds and the lowest that does not.

    The first is 0 if none held, the second None if none failed.
    """
    rate = natural
    if holds(rate):
        for _ in range(doublings):
            if not holds(2 * rate):
                return rate, 2 * rate
            rate *= 2
        return rate, None
    for _ in range(doublings):
        if holds(rate / 2):
            return rate / 2, rate
        rate /= 2
    return 0.0, rate
