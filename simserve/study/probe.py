"""One rate of requests, tried: a simulation, and whether objectives hold in it.

The rate is varied by stretching the gaps between arrivals; think times of sessions stay as they are. A rate
holds if every term does, nothing failed, and the system is steady: the number of requests in it does not grow
while they arrive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from simserve.errors import InputError
from simserve.metrics.pools import PoolInfo, energy_joules
from simserve.metrics.result import Result
from simserve.metrics.summary import Window
from simserve.scenario.schema import Scenario
from simserve.simulation import simulate
from simserve.study.failure import describe_failure
from simserve.study.load import load_of
from simserve.study.slo_terms import SloTerm
from simserve.study.steadiness import OFFERED_SHARE, judged_window, read_evidence
from simserve.workload.workload import Workload

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
        offered_per_s: Requests that were really sent a second: sessions wait for answers.
        unoffered: In words, that the rate was not there for long, whatever the servers can do; "" if it was.
        doubt: In words, why more, or fewer, a second may hold; "" if it is sure.
        window: The part of the run that the figures are of: s left out at its begin, and at its end.
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
    offered_per_s: float = 0.0
    unoffered: str = ""
    doubt: str = ""
    window: tuple[float, float] = (0.0, 0.0)
    error: str = ""
    bad_input: bool = False
    died: bool = False

    @property
    def held_back(self) -> bool:
        """Whether sessions or a client's cap do not offer the rate; more instances cannot change that."""
        return bool(self.unoffered) and self.offered_per_s < OFFERED_SHARE * self.rate_per_s

    @property
    def verdict(self) -> str:
        """In words: whether it holds, or why not."""
        if self.error:
            return f"cannot be: {self.error}"
        if self.holds and self.unoffered:
            return "is not offered" if self.held_back else "holds, all at once"
        if self.holds:
            return "holds"
        return "does not hold" if self.steady else "the queue grows"

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
        result = simulate(task.scenario, workload=load)
    except (Exception, SystemExit) as error:  # a policy of the user's may raise anything
        reason = describe_failure(error).splitlines()[0]
        return Probe(task.rate_per_s or 0.0, False, error=reason, bad_input=isinstance(error, InputError))
    if result.partial:
        raise KeyboardInterrupt
    window = judged_window(load, result)
    result = result.within(window)
    evidence, summary = read_evidence(load, result), result.summary
    return Probe(
        rate_per_s=rate,
        holds=evidence.steady and not summary["failed"] and all(term.holds(summary) for term in task.slo),
        steady=evidence.steady,
        figures={
            **{term.key: summary[term.key] for term in task.slo},
            **{name: summary[name] for name in _FIGURES},
            "joules_per_request": _joules_per_request(result, window, task.powers),
        },
        bottleneck=str(summary["bottleneck"] or ""),
        failed=summary["failed"],
        offered_per_s=rate * evidence.offered_share,
        unoffered=evidence.tell_unoffered(rate),
        doubt=evidence.tell_doubt(rate),
        window=(window.warmup_s, window.cooldown_s),
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


def _joules_per_request(
    result: Result, window: Window, powers: Mapping[str, tuple[float, float]]
) -> float | None:
    """Return the energy of the judged part of a run, for each request that completed in it."""
    completed = (result.summary["request_throughput"] or 0.0) * result.summary["duration"]
    end_s = max(result.requests.end_ns, default=0) / 1e9 - window.cooldown_s
    pools = [_powered(pool, powers) for pool in result.pools]
    energy = energy_joules(pools, result.steps, end_s, window.warmup_s)
    return None if energy is None or not completed else energy / completed


def _powered(pool: PoolInfo, powers: Mapping[str, tuple[float, float]]) -> PoolInfo:
    if pool.hardware not in powers:
        return pool
    idle_w, busy_w = (watts * pool.accelerators for watts in powers[pool.hardware])
    return replace(pool, idle_power_w=idle_w, busy_power_w=busy_w)
