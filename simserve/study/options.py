"""What became of each configuration, and which is best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

# What is made least, or most, and its unit.
OBJECTIVES = {
    "cost": "USD/h",
    "gpus": "accelerators",
    "throughput_per_gpu": "requests/s an accelerator",
    "energy": "J a request",
}


@dataclass(frozen=True, slots=True)
class Option:
    """What became of one candidate.

    Attributes:
        settings: Its keys and values.
        verdict: "holds", or why it is out.
        sizes: Instances of each pool; empty if it is out.
        gpus: Accelerators of all of them.
        usd_per_hour: Of all of them; None if a price is unknown.
        rate_per_s: Requests a second that it holds: those asked for, or the most it can.
        figures: Of the run with that many, at that rate; of several seeds the first's, but for the figures of
            the objectives' terms, which are the worst of all.
        window: The part of that run that they are of: s left out at its begin, and at its end.
        bottleneck: What holds that run back.
        doubt: Why it may need more, or fewer, as of `simserve.study.probe.Probe`; "" if it is sure.
        binds: What breaks with one instance fewer, or at the next higher rate that was tried; empty where
            nothing was tried.
        unfinished: Whether the search ended early: fewer instances, or a higher rate, may hold too.
        probes: (instances of each pool, rate, seed, whether they hold) of all that were simulated.
    """

    settings: Mapping[str, Any]
    verdict: str
    sizes: tuple[int, ...] = ()
    gpus: int = 0
    usd_per_hour: float | None = None
    rate_per_s: float = 0.0
    figures: Mapping[str, float | None] | None = None
    window: tuple[float, float] = (0.0, 0.0)
    bottleneck: str = ""
    doubt: str = ""
    binds: tuple[str, ...] = ()
    unfinished: bool = False
    probes: tuple[tuple[tuple[int, ...], float, int, bool], ...] = ()

    @property
    def holds(self) -> bool:
        """Whether it is in."""
        return bool(self.sizes)

    @property
    def replicas(self) -> int:
        """Instances of all pools."""
        return sum(self.sizes)

    def value(self, objective: str) -> float | None:
        """Return what an objective counts, in its unit; None if it is unknown."""
        if objective == "gpus":
            return float(self.gpus)
        if objective == "cost":
            return self.usd_per_hour
        if objective == "throughput_per_gpu":
            return self.rate_per_s / self.gpus
        return (self.figures or {}).get("joules_per_request")

    def rank(self, objective: str) -> tuple[float, int, str]:
        """Return its place: the smaller, the better; ties go to fewer accelerators, then to the settings."""
        value = self.value(objective)
        worth = inf if value is None else -value if objective == "throughput_per_gpu" else value
        return worth, self.gpus, str(dict(self.settings))


@dataclass(frozen=True, slots=True)
class Recommendation:
    """All options, best first, then those that are out in the order of the space.

    Attributes:
        objective: What was asked for.
        rate_per_s: The load; None where each option has its own.
        options: All of them.
        stopped: Why the search ended early ("interrupted", "out of time", "out of probes"): the best so far
            is first; "" if it did not.
    """

    objective: str
    rate_per_s: float | None
    options: tuple[Option, ...]
    stopped: str = ""

    @property
    def best(self) -> Option | None:
        """The best option; None if none holds."""
        return self.options[0] if self.options and self.options[0].holds else None

    def pareto(self, key: str) -> list[Option]:
        """Return the options that no other beats both in the objective and in one figure, best first."""
        front: list[Option] = []
        least = inf
        for option in (each for each in self.options if each.holds):
            value = (option.figures or {}).get(key)
            if value is not None and value < least:
                front.append(option)
                least = value
        return front
