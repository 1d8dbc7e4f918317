"""Service-level objectives: which requests meet them (attainment), and how many a second do (goodput).

As in `vllm bench serve --goodput`, a request is good if each of its latencies with a target is at most that
target; a request of one token has a TPOT of 0 here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from simserve.metrics.columns import Floats, Ints, Mask


@dataclass(frozen=True, slots=True)
class SloTargets:
    """Upper limits of latencies in seconds; None means no limit.

    Attributes:
        ttft_s, tpot_s, e2el_s: The limits of requests without a class of their own.
        classes: Limits of requests that carry this SLO class, instead of the ones above.
    """

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2el_s: float | None = None
    classes: Mapping[str, SloTargets] = field(default_factory=dict)

    @property
    def given(self) -> bool:
        """Whether there is any target at all."""
        own = any(limit is not None for limit in (self.ttft_s, self.tpot_s, self.e2el_s))
        return own or any(targets.given for targets in self.classes.values())


def meets_slo(
    targets: SloTargets,
    slo_class: Sequence[str],
    *,
    ttft_ns: Ints,
    tpot_ns: Floats,
    e2el_ns: Ints,
    completed: Mask,
) -> Mask:
    """Return `[n]` whether each request completed within its targets.

    Args:
        targets: The limits.
        slo_class: `[n]`, the class of each request ("": none); a class without targets has the general ones.
        ttft_ns, tpot_ns, e2el_ns: `[n]`, latencies in ns.
        completed: `[n]`; a request that did not complete is never good.
    """
    good = completed.copy()
    classed = np.zeros(len(completed), dtype=np.bool_)
    for name, limits in targets.classes.items():
        members = np.array([label == name for label in slo_class], dtype=np.bool_)
        good &= ~members | _within(limits, ttft_ns, tpot_ns, e2el_ns)
        classed |= members
    return good & (classed | _within(targets, ttft_ns, tpot_ns, e2el_ns))


def _within(targets: SloTargets, ttft_ns: Ints, tpot_ns: Floats, e2el_ns: Ints) -> Mask:
    good = np.ones(len(ttft_ns), dtype=np.bool_)
    pairs = ((targets.ttft_s, ttft_ns), (targets.tpot_s, tpot_ns), (targets.e2el_s, e2el_ns))
    for limit_s, latency_ns in pairs:
        if limit_s is not None:
            good &= latency_ns <= limit_s * 1e9
    return good
