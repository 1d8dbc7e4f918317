"""`recommend`: the cheapest configuration that serves a load within its objectives.

Each candidate gets the fewest instances that hold; candidates whose least conceivable size costs more than
what has been found are not simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simserve.errors import InputError
from simserve.study.candidates import Candidate, Unfit, broken_terms, least_instances
from simserve.study.capacity import Probe, natural_rate, probe_rate
from simserve.study.slo_terms import SloTerm
from simserve.workload.workload import Workload

OBJECTIVES = ("cost", "gpus")


@dataclass(frozen=True, slots=True)
class Option:
    """What became of one candidate.

    Attributes:
        settings: Its keys and values.
        verdict: "holds", or why it is out.
        replicas: Fewest instances that hold; 0 if none did.
        gpus: Accelerators of all of them.
        usd_per_hour: Of all of them; None if the price is unknown.
        figures: Of the run with that many.
        binds: Terms that break with one instance fewer, or that the queue grows; empty at the least number.
        probes: (instances, whether they hold) of all that were simulated.
    """

    settings: Mapping[str, Any]
    verdict: str
    replicas: int = 0
    gpus: int = 0
    usd_per_hour: float | None = None
    figures: Mapping[str, float | None] | None = None
    binds: tuple[str, ...] = ()
    probes: tuple[tuple[int, bool], ...] = ()

    def cost(self, objective: str) -> float:
        """Return what the objective counts."""
        return float(self.gpus if objective == "gpus" else self.usd_per_hour or 0.0)


@dataclass(frozen=True, slots=True)
class Recommendation:
    """All options, best first, then those that are out in the order of the space.

    Attributes:
        objective: What was minimised.
        rate_per_s: The load.
        options: All of them.
        stopped: Whether the search was interrupted: the best so far is first.
    """

    objective: str
    rate_per_s: float
    options: tuple[Option, ...]
    stopped: bool = False

    @property
    def best(self) -> Option | None:
        """The option that costs least; None if none holds."""
        return self.options[0] if self.options and self.options[0].replicas else None

    def pareto(self, key: str) -> list[Option]:
        """Return the options that no other beats both in the objective and in one figure, cheapest first."""
        front: list[Option] = []
        for option in (each for each in self.options if each.replicas and each.figures is not None):
            value = option.figures.get(key) if option.figures else None
            least = min((_figure(each, key) for each in front), default=float("inf"))
            if value is not None and value < least:
                front.append(option)
        return front


def recommend(
    candidates: Sequence[Candidate | Unfit],
    workload: Workload,
    slo: Sequence[SloTerm],
    *,
    objective: str = "cost",
    rate_per_s: float | None = None,
    most_gpus: int = 64,
    tried: Callable[[Candidate, int, Probe], None] | None = None,
) -> Recommendation:
    """Size every candidate and rank them.

    Args:
        candidates: The space.
        workload: The load.
        slo: Terms that must hold.
        objective: One of `OBJECTIVES`.
        rate_per_s: Requests a second; None: the workload's own.
        most_gpus: No option may have more.
        tried: Called after each simulation.

    Raises:
        InputError: If the objective is cost and a candidate has no price, or there is nothing to stretch.
    """
    natural = natural_rate(workload)
    rate = rate_per_s or natural
    fit = [each for each in candidates if isinstance(each, Candidate)]
    unpriced = [each for each in fit if each.price_usd_per_hour is None]
    if objective == "cost" and unpriced:
        name = unpriced[0].scenario.pools[0].hardware
        raise InputError(
            f"no price of {name} is known; give one with --price {name}=USD, or --objective gpus"
        )
    search = _Search(workload, slo, objective, rate, natural, most_gpus, tried)
    out = [
        Option(each.settings, f"cannot be: {each.reason}") for each in candidates if isinstance(each, Unfit)
    ]
    held: list[Option] = []
    stopped = False
    try:
        # The cheapest lower bound first: what it finds prunes most of the others.
        for candidate in sorted(fit, key=search.least_cost):
            option = search.size(candidate, min((each.cost(objective) for each in held), default=None))
            (held if option.replicas else out).append(option)
    except KeyboardInterrupt:
        stopped = True
    held.sort(key=lambda option: (option.cost(objective), option.gpus, str(dict(option.settings))))
    return Recommendation(objective, rate, (*held, *out), stopped)


@dataclass(slots=True)
class _Search:
    workload: Workload
    slo: Sequence[SloTerm]
    objective: str
    rate: float
    natural: float
    most_gpus: int
    tried: Callable[[Candidate, int, Probe], None] | None

    def least_cost(self, candidate: Candidate) -> float:
        """What a candidate costs at the very least."""
        return self._cost(candidate, least_instances(candidate, self.workload, self.rate))

    def size(self, candidate: Candidate, best: float | None) -> Option:
        """Find the fewest instances that hold; stop where they would cost more than `best`."""
        broken = broken_terms(candidate, self.workload, self.slo)
        if broken:
            return Option(candidate.settings, f"a request alone breaks {broken[0].text}")
        least = least_instances(candidate, self.workload, self.rate)
        most = self.most_gpus // candidate.gpus
        if best is not None:
            affordable = [n for n in range(least, most + 1) if self._cost(candidate, n) <= best]
            if not affordable:
                return Option(candidate.settings, f"needs {least} instances at least: dearer than the best")
            most = affordable[-1]
        if least > most:
            return Option(candidate.settings, f"needs more than {self.most_gpus} accelerators")
        return self._find(candidate, least, most, best is not None)

    def _find(self, candidate: Candidate, least: int, most: int, bounded: bool) -> Option:
        probes: dict[int, Probe] = {}

        def holds(replicas: int) -> bool:
            if replicas not in probes:
                scenario = candidate.with_replicas(replicas)
                probes[replicas] = probe_rate(scenario, self.workload, self.slo, self.rate, self.natural)
                if self.tried is not None:
                    self.tried(candidate, replicas, probes[replicas])
            return probes[replicas].holds

        low, high, step = least - 1, least, 1
        while not holds(high):
            if high == most:
                reason = "dearer than the best" if bounded else f"more than {self.most_gpus} accelerators"
                return Option(
                    candidate.settings,
                    f"does not hold with {most} instances: {reason}",
                    probes=_tried(probes),
                )
            low, step = high, 2 * step
            high = min(high + step, most)
        while high - low > 1:
            middle = (low + high) // 2
            if holds(middle):
                high = middle
            else:
                low = middle
        price = candidate.price_usd_per_hour
        return Option(
            settings=candidate.settings,
            verdict="holds",
            replicas=high,
            gpus=high * candidate.gpus,
            usd_per_hour=None if price is None else high * candidate.gpus * price,
            figures=probes[high].figures,
            binds=self._binding(probes.get(low)),
            probes=_tried(probes),
        )

    def _binding(self, probe: Probe | None) -> tuple[str, ...]:
        if probe is None:
            return ()
        broken = [term.text for term in self.slo if not term.holds(probe.figures)]
        return tuple(broken if probe.steady else ["the queue grows", *broken])

    def _cost(self, candidate: Candidate, replicas: int) -> float:
        gpus = replicas * candidate.gpus
        return float(gpus if self.objective == "gpus" else gpus * (candidate.price_usd_per_hour or 0.0))


def _tried(probes: Mapping[int, Probe]) -> tuple[tuple[int, bool], ...]:
    return tuple((replicas, probe.holds) for replicas, probe in probes.items())


def _figure(option: Option, key: str) -> float:
    value = (option.figures or {}).get(key)
    return float("inf") if value is None else value
