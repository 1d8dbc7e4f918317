"""One rate of requests, tried: a simulation, and whether objectives hold in it.

The rate is varied by stretching the gaps between arrivals; think times of sessions stay as they are. A rate
holds if every term does, nothing failed, and the system is steady: the number of requests in it does not grow
while they arrive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from simserve.errors import InputError, SimserveError
from simserve.metrics.columns import Floats
from simserve.metrics.pools import PoolInfo, energy_joules
from simserve.metrics.result import Result
from simserve.scenario.schema import Metrics, Scenario
from simserve.simulation import simulate
from simserve.study.load import load_of
from simserve.study.slo_terms import SloTerm
from simserve.workload.workload import Workload

# Share of the arrivals that fill the empty system and are not judged.
WARM_UP_SHARE = 0.1
# A queue grows if by the end it has more than at half-time by this share of the arrivals between, and by more
# than chance: standard deviations of a Poisson number of the half-time's size.
GROWING_SHARE = 0.03
_DEVIATIONS = 3.0
# Arrivals shorter than so many requests take on average have hardly filled the system when they end.
SHORTEST_ARRIVALS = 4
# Told of every probe beside the terms' own figures.
_FIGURES = ("request_throughput", "output_throughput", "total_token_throughput")


@dataclass(frozen=True, slots=True)
class ProbeTask:
    """What is to be tried.

    Attributes:
        scenario: The servers, and the requests.
        slo: Terms that must hold.
        rate_per_s: Requests that arrive a second; None: as they do in the scenario.
        powers: W of one accelerator without and with a step executing, by its name.
    """

    scenario: Scenario
    slo: tuple[SloTerm, ...]
    rate_per_s: float | None
    powers: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Probe:
    """One rate that was tried.

    Attributes:
        rate_per_s: Requests that arrive a second.
        holds: Whether all terms hold and the system is steady.
        steady: The latter.
        figures: The terms' figures, in the summary's units, the throughput, and the energy of a completed
            request (None where a power is unknown).
        bottleneck: What holds the run back, in words.
        failed: Requests that failed.
        short: In words, that the arrivals are too short for a request's latency (`SHORTEST_ARRIVALS`): what
            holds in the long run may not seem steady. "" if they are not.
        error: Why there is no run; "" if there is one.
        bad_input: Whether that is for what was given, and no failure.
        died: Whether that is for a process that died.
    """

    rate_per_s: float
    holds: bool
    steady: bool = False
    figures: dict[str, float | None] = field(default_factory=dict)
    bottleneck: str = ""
    failed: int = 0
    short: str = ""
    error: str = ""
    bad_input: bool = False
    died: bool = False

    @property
    def verdict(self) -> str:
        """In words: whether it holds, or why not."""
        if self.error:
            return f"cannot be: {self.error}"
        return "holds" if self.holds else "does not hold" if self.steady else "the queue grows"

    def broken(self, slo: tuple[SloTerm, ...]) -> list[str]:
        """Return what does not hold: that the queue grows, that requests fail, and terms."""
        terms = [term.text for term in slo if not term.holds(self.figures)]
        failing = ["requests fail"] if self.failed else []
        return [*([] if self.steady else ["the queue grows"]), *failing, *terms]


def probe_rate(task: ProbeTask) -> Probe:
    """Simulate one rate and judge it; what cannot be simulated is told in the probe.

    Raises:
        KeyboardInterrupt: If it was interrupted: half a run is no answer.
    """
    try:
        load = load_of(task.scenario)
        natural = natural_rate(load)
        rate = task.rate_per_s or natural
        load = stretch(load, natural / rate)
        span_s = float(load.arrival_ns[-1] - load.arrival_ns[0]) / 1e9
        judged = Metrics(warmup_s=span_s * WARM_UP_SHARE, cooldown_s=0.0)
        result = simulate(task.scenario.model_copy(update={"metrics": judged}), workload=load)
    except SimserveError as error:
        bad = isinstance(error, InputError)
        return Probe(task.rate_per_s or 0.0, False, error=str(error).splitlines()[0], bad_input=bad)
    if result.partial:
        raise KeyboardInterrupt
    summary = result.summary
    steady = is_steady(result)
    return Probe(
        rate_per_s=rate,
        holds=steady and not summary["failed"] and all(term.holds(summary) for term in task.slo),
        steady=steady,
        figures={
            **{term.key: summary[term.key] for term in task.slo},
            **{name: summary[name] for name in _FIGURES},
            "joules_per_request": _joules_per_request(result, task.powers),
        },
        bottleneck=str(summary["bottleneck"] or ""),
        failed=summary["failed"],
        short=_tell_short(len(load.arrival_ns), rate, span_s, (summary["mean_e2el_ms"] or 0.0) / 1e3),
    )


def _tell_short(requests: int, rate_per_s: float, span_s: float, mean_e2el_s: float) -> str:
    if span_s >= SHORTEST_ARRIVALS * mean_e2el_s:
        return ""
    return (
        f"at {rate_per_s:.4g}/s the {requests:,} requests arrive within {span_s:.3g} s, and one takes "
        f"{mean_e2el_s:.3g} s on average"
    )


def natural_rate(workload: Workload) -> float:
    """Return the mean rate of a workload's arrivals, follow-ups of sessions among them, in requests a second.

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
    return last - middle <= GROWING_SHARE * between + _DEVIATIONS * float(np.sqrt(max(middle, 1.0)))


def _mean_inside(arrivals: Floats, ends: Floats, begin: float, end: float, share: float) -> float:
    """Return how many requests are in the system, averaged over a tenth of the arrivals around a share."""
    moments = begin + (end - begin) * np.linspace(share - 0.05, share + 0.05, 101)
    inside = np.searchsorted(arrivals, moments, side="right") - np.searchsorted(ends, moments, side="right")
    return float(inside.mean())


def _joules_per_request(result: Result, powers: Mapping[str, tuple[float, float]]) -> float | None:
    completed = result.summary["completed"]
    end_s = max(result.requests.end_ns, default=0) / 1e9
    energy = energy_joules([_powered(pool, powers) for pool in result.pools], result.steps, end_s)
    return None if energy is None or not completed else energy / completed


def _powered(pool: PoolInfo, powers: Mapping[str, tuple[float, float]]) -> PoolInfo:
    if pool.hardware not in powers:
        return pool
    idle_w, busy_w = (watts * pool.accelerators for watts in powers[pool.hardware])
    return replace(pool, idle_power_w=idle_w, busy_power_w=busy_w)
