"""Whether a run tells how a rate is served in the long run: it was offered, and the queue did not grow.

The second half of the arrivals is looked at: by then the system is full. Where requests follow the answers to
others (sessions), the arrivals are those of the first ones: they alone are stretched, and after them the load
only fades.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np

from simserve.metrics.columns import Floats
from simserve.metrics.result import Result
from simserve.metrics.summary import Window
from simserve.workload.workload import Workload

# Share of the arrivals that fill the empty system and are not judged; with sessions, which fill it as long as
# one lasts.
_FILLING_SHARE, _FILLING_SHARE_OF_SESSIONS = 0.1, 0.5
# A queue grows if by the end it has more than at half-time by this share of the arrivals between, and by more
# than chance: standard deviations of a Poisson number of the half-time's size.
GROWING_SHARE = 0.03
_DEVIATIONS = 3.0
# Arrivals shorter than so many requests take on average have hardly filled the system when they end.
_SHORTEST_ARRIVALS = 4
# Of the rate that is asked for; sessions that offer less cannot show whether it holds.
OFFERED_SHARE = 0.95


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the record of a run says of its load.

    Attributes:
        requests: How many there are.
        span_s: Time from the first arrival to the last.
        offered_share: Requests that were sent in the second half of the arrivals, of those to be sent then.
        growth: By how much the number of requests in the system grew there, as a share of the arrivals.
        in_system: How many were in it before.
        mean_e2el_s: Time of a request, on average.
        follows: What holds requests back: "sessions", "client"; "" for nothing.
    """

    requests: int
    span_s: float
    offered_share: float
    growth: float
    in_system: float
    mean_e2el_s: float
    follows: str = ""

    @property
    def chance(self) -> float:
        """Growth that is no more than chance, as a share of the arrivals."""
        return _DEVIATIONS * sqrt(max(self.in_system, 1.0)) / (self.requests / 2)

    @property
    def steady(self) -> bool:
        """Whether the number of requests in the system does not grow, as far as one can tell."""
        return self.growth <= GROWING_SHARE + self.chance

    def tell_unoffered(self, rate_per_s: float) -> str:
        """Return in words why a rate was not there for long, whatever the servers can do; "" if it was."""
        if self.offered_share < OFFERED_SHARE:
            held = "its sessions send" if self.follows == "sessions" else "its client's cap lets through"
            more = "more sessions (workload.requests)" if self.follows == "sessions" else "a higher cap"
            offered = rate_per_s * self.offered_share
            return (
                f"{held} {offered:.4g} requests/s when {rate_per_s:.4g} are asked for; {more} can offer more"
            )
        if self.span_s < self.mean_e2el_s:
            return f"{self._tell_span(rate_per_s)}; more requests can tell more"
        return ""

    def tell_doubt(self, rate_per_s: float) -> str:
        """Return in words why more, or less, may hold than a run shows; "" if it is sure."""
        if self.span_s < _SHORTEST_ARRIVALS * self.mean_e2el_s:
            return (
                f"{self._tell_span(rate_per_s)}: too short to tell a queue that grows from a system that "
                "fills, so it may hold more, or less"
            )
        if self.chance > GROWING_SHARE:
            needed = 100 * ceil(2 * _DEVIATIONS * sqrt(max(self.in_system, 1.0)) / GROWING_SHARE / 100)
            return (
                f"{self.requests:,} requests cannot tell a queue that grows by up to "
                f"{self.chance + GROWING_SHARE:.1%} of the arrivals from chance, so the rate that holds may "
                f"be that much lower; {needed:,} requests would tell {2 * GROWING_SHARE:.1%}"
            )
        return ""

    def _tell_span(self, rate_per_s: float) -> str:
        return (
            f"at {rate_per_s:.4g}/s the {self.requests:,} requests arrive within {self.span_s:.3g} s, and "
            f"one takes {self.mean_e2el_s:.3g} s on average"
        )


def read_evidence(workload: Workload, result: Result) -> Evidence:
    """Return what a finished run says of its load.

    Args:
        workload: What was simulated, with its arrivals as they were asked for.
        result: What it gave.
    """
    due = _unprompted(workload)
    begin, end = due[0], due[-1]
    middle = due[len(due) // 2]
    sent = np.sort(np.array(result.requests.arrival_ns, dtype=np.float64))
    ends = np.array(result.requests.end_ns, dtype=np.float64)
    ends = np.sort(np.where(ends < 0, np.inf, ends))  # -1: never
    share = float(np.mean(due >= middle))
    sent_share = float(np.mean((sent >= middle) & (sent <= end)))
    # Averages over the fourth and the last tenth of the arrivals: single moments are left to chance.
    before, after = (_mean_inside(sent, ends, begin, end, at) for at in (0.45, 0.95))
    capped = workload.client.max_concurrency is not None
    return Evidence(
        requests=workload.count,
        span_s=float(end - begin) / 1e9,
        offered_share=sent_share / share,
        growth=(after - before) / (workload.count / 2),
        in_system=before,
        mean_e2el_s=(result.summary["mean_e2el_ms"] or 0.0) / 1e3,
        follows="sessions" if _has_sessions(workload) else "client" if capped else "",
    )


def judged_window(workload: Workload, result: Result) -> Window:
    """Return the part of a run that is judged: the system is filled, and requests still arrive.

    Args:
        workload, result: As of `read_evidence`.
    """
    due = _unprompted(workload)
    filling = _FILLING_SHARE_OF_SESSIONS if _has_sessions(workload) else _FILLING_SHARE
    last_sent = max(result.requests.arrival_ns, default=0)
    return Window(
        warmup_s=float(due[0] + (due[-1] - due[0]) * filling) / 1e9,
        cooldown_s=max(float(last_sent - due[-1]), 0.0) / 1e9,
    )


def _unprompted(workload: Workload) -> Floats:
    """Return when the requests are due that wait for no answer, sorted, in ns."""
    first = workload.predecessor < 0 if workload.predecessor is not None else slice(None)
    return np.sort(workload.arrival_ns[first]).astype(np.float64)


def _has_sessions(workload: Workload) -> bool:
    return workload.predecessor is not None and bool((workload.predecessor >= 0).any())


def _mean_inside(sent: Floats, ends: Floats, begin: float, end: float, share: float) -> float:
    """Return how many requests are in the system, averaged over a tenth of the arrivals around a share."""
    moments = begin + (end - begin) * np.linspace(share - 0.05, share + 0.05, 101)
    inside = np.searchsorted(sent, moments, side="right") - np.searchsorted(ends, moments, side="right")
    return float(inside.mean())
