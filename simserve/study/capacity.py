"""`capacity`: the highest request rate at which a scenario keeps its objectives.

The rate is varied by stretching the gaps between arrivals; think times of sessions stay as they are. A rate
holds if every term does, nothing failed, and the system is steady: the number of requests in it does not grow
while they arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from simserve.errors import InputError
from simserve.metrics.columns import Floats
from simserve.metrics.result import Result
from simserve.scenario.schema import Metrics, Scenario
from simserve.simulation import simulate
from simserve.study.slo_terms import SloTerm
from simserve.workload.workload import Workload

# Share of the arrivals that fill the empty system and are not judged.
WARM_UP_SHARE = 0.1
# A queue grows if by the end it has more than at half-time by this share of the arrivals between, and by more
# than chance: standard deviations of a Poisson number of the half-time's size.
_GROWING_SHARE, _DEVIATIONS = 0.03, 3.0
# Each way from the scenario's own rate.
_MOST_DOUBLINGS = 20


@dataclass(frozen=True, slots=True)
class Probe:
    """One rate that was tried.

    Attributes:
        rate_per_s: Requests that arrive a second.
        holds: Whether all terms hold and the system is steady.
        steady: The latter.
        figures: The terms' figures, in the summary's units, and the throughput.
    """

    rate_per_s: float
    holds: bool
    steady: bool
    figures: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Capacity:
    """What one search found.

    Attributes:
        seed: Of the scenario.
        rate_per_s: Highest rate that holds; 0 if none did.
        fails_at_per_s: Lowest rate tried that does not hold; None if none failed.
        probes: All that were tried, in order.
    """

    seed: int
    rate_per_s: float
    fails_at_per_s: float | None
    probes: tuple[Probe, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it in the form of `simserve capacity --json`."""
        return asdict(self)


def find_capacity(
    scenario: Scenario,
    workload: Workload,
    slo: Sequence[SloTerm],
    *,
    tolerance: float = 0.02,
    tried: Callable[[Probe], None] | None = None,
) -> Capacity:
    """Bracket and bisect the highest rate that holds.

    Args:
        scenario: The servers.
        workload: Its requests, whose gaps are stretched.
        slo: Terms that must hold.
        tolerance: How far above the found rate the next one that fails may be, relative to it.
        tried: Called after each probe.

    Raises:
        InputError: If the requests have no arrival times to stretch.
    """
    natural = natural_rate(workload)
    probes: list[Probe] = []

    def holds(rate: float) -> bool:
        probe = probe_rate(scenario, workload, slo, rate, natural)
        probes.append(probe)
        if tried is not None:
            tried(probe)
        return probe.holds

    low, high = bracket(natural, holds)
    while low and high is not None and high / low > 1 + tolerance:
        middle = float(np.sqrt(low * high))
        if holds(middle):
            low = middle
        else:
            high = middle
    return Capacity(scenario.seed, low, high, tuple(probes))


def natural_rate(workload: Workload) -> float:
    """Return the mean rate of a workload's arrivals, follow-ups of sessions apart, in requests a second.

    Raises:
        InputError: If all arrive at once, or the client decides when (a closed loop).
    """
    first = workload.predecessor < 0 if workload.predecessor is not None else slice(None)
    arrivals = workload.arrival_ns[first]
    span_s = float(arrivals[-1] - arrivals[0]) / 1e9 if len(arrivals) > 1 else 0.0
    if not workload.has_arrivals or span_s <= 0:
        raise InputError(
            "the requests have no arrival times to stretch; expected arrivals with a rate, or a trace that "
            "records them"
        )
    return len(workload.arrival_ns) / (span_s * len(arrivals) / (len(arrivals) - 1))


def stretch(workload: Workload, factor: float) -> Workload:
    """Return the same requests with arrivals `factor` times as far apart."""
    arrival_ns = np.rint(workload.arrival_ns * factor).astype(np.int64)
    return replace(workload, arrival_ns=arrival_ns)


def probe_rate(
    scenario: Scenario, workload: Workload, slo: Sequence[SloTerm], rate_per_s: float, natural_per_s: float
) -> Probe:
    """Simulate one rate and judge it."""
    load = stretch(workload, natural_per_s / rate_per_s)
    span_s = float(load.arrival_ns[-1] - load.arrival_ns[0]) / 1e9
    judged = Metrics(warmup_s=span_s * WARM_UP_SHARE, cooldown_s=0.0)
    result = simulate(scenario.model_copy(update={"metrics": judged}), workload=load)
    summary = result.summary
    steady = is_steady(result)
    holds = steady and not summary["failed"] and all(term.holds(summary) for term in slo)
    figures = {term.key: summary[term.key] for term in slo}
    return Probe(rate_per_s, holds, steady, {**figures, "output_throughput": summary["output_throughput"]})


def is_steady(result: Result) -> bool:
    """Whether the number of requests in the system does not grow during the second half of the arrivals."""
    log = result.requests
    arrivals = np.sort(np.array(log.arrival_ns, dtype=np.float64))
    ends = np.sort(np.array(log.end_ns, dtype=np.float64))
    if len(arrivals) < 2:
        return True
    begin, end = arrivals[0], arrivals[-1]
    # Averages over the fourth and the last tenth of the arrivals: single moments are left to chance.
    middle, last = (_mean_inside(arrivals, ends, begin, end, share) for share in (0.45, 0.95))
    between = len(arrivals) / 2
    return last - middle <= _GROWING_SHARE * between + _DEVIATIONS * float(np.sqrt(max(middle, 1.0)))


def _mean_inside(arrivals: Floats, ends: Floats, begin: float, end: float, share: float) -> float:
    """Return how many requests are in the system, averaged over a tenth of the arrivals around a share."""
    moments = begin + (end - begin) * np.linspace(share - 0.05, share + 0.05, 101)
    inside = np.searchsorted(arrivals, moments, side="right") - np.searchsorted(ends, moments, side="right")
    return float(inside.mean())


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
