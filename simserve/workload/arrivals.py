"""Arrival processes: constant, Poisson, gamma and Weibull gaps, at any rate schedule; and closed loops.

Gaps of mean 1 are drawn and summed, then mapped through the inverse of the integrated rate (time rescaling),
so that the rate follows the schedule and the burstiness stays the process's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from simserve.errors import InputError
from simserve.units import NS_PER_S
from simserve.workload.rates import FloatColumn, RateSchedule
from simserve.workload.workload import IntColumn

# What fits into a large machine's memory: some 40 bytes each.
MOST_REQUESTS = 10**9
# How much more than expected is drawn at a time when only a duration is given.
_MARGIN = 1.1


@dataclass(frozen=True)
class ArrivalProcess:
    """A renewal process.

    Attributes:
        kind: Distribution of the gaps.
        schedule: The rate over time.
        cv: Coefficient of variation of the gaps, for gamma and weibull.
    """

    kind: Literal["constant", "poisson", "gamma", "weibull"]
    schedule: RateSchedule
    cv: float = 1.0

    def draw(self, rng: np.random.Generator, count: int | None, duration_s: float | None = None) -> IntColumn:
        """Return arrival times in ns, shape (n,), non-decreasing.

        The first constant arrival is at 0, that of the others one gap later.

        Args:
            rng: Where the gaps come from.
            count: How many at most; None: as many as arrive within the duration.
            duration_s: Only arrivals before this time; None: no limit. One of the two is needed.

        Raises:
            InputError: If the schedule ends before `count` arrivals.
        """
        if duration_s is None:
            if count is None:
                raise InputError("expected a number of requests or a duration")
            return _to_ns(self.schedule.times_of(self._counts(rng, count)))
        limit = self.schedule.expected(duration_s)
        if count is None and limit > MOST_REQUESTS:
            raise InputError(f"about {limit:.0e} requests would arrive; expected at most {MOST_REQUESTS:.0e}")
        counts = self._counts(rng, _enough(limit, count))
        while count is None and counts[-1] < limit:
            more = counts[-1] + np.cumsum(self._gaps(rng, _enough(limit - counts[-1], None)))
            counts = np.concatenate((counts, more))
        return _to_ns(self.schedule.times_of(counts[counts < limit][:count]))

    def _counts(self, rng: np.random.Generator, count: int) -> FloatColumn:
        """Arrival times on a clock on which the rate is 1."""
        if self.kind == "constant":
            return np.arange(count, dtype=np.float64)
        return np.cumsum(self._gaps(rng, count))

    def _gaps(self, rng: np.random.Generator, count: int) -> FloatColumn:
        if self.kind == "constant":
            return np.ones(count)
        if self.kind == "poisson":
            return rng.standard_exponential(count)
        if self.kind == "gamma":
            shape = self.cv**-2
            return rng.standard_gamma(shape, count) / shape
        shape = weibull_shape(self.cv)
        return rng.weibull(shape, count) / math.gamma(1 + 1 / shape)


def _enough(expected: float, count: int | None) -> int:
    return count if count is not None else int(expected * _MARGIN) + 16


def _to_ns(times_s: FloatColumn) -> IntColumn:
    if len(times_s) and times_s[-1] >= 2**63 / NS_PER_S:
        raise InputError("arrivals reach beyond 292 years; expected a higher rate or fewer requests")
    result: IntColumn = np.rint(times_s * NS_PER_S).astype(np.int64)
    return result


def weibull_shape(cv: float) -> float:
    """Return the shape k of a Weibull distribution with a coefficient of variation.

    cv^2 = G(1 + 2/k) / G(1 + 1/k)^2 - 1, which falls in k; solved by bisection of log k.

    Raises:
        InputError: If cv is outside 0.01 to 20, where the shape would be beyond 0.15 to 130.
    """
    if not 0.01 <= cv <= 20:
        raise InputError(f"cv {cv:g} is out of range for weibull; expected 0.01 to 20")
    low, high = math.log(0.1), math.log(200)
    target = math.log1p(cv * cv)
    for _ in range(100):
        middle = (low + high) / 2
        k = math.exp(middle)
        if math.lgamma(1 + 2 / k) - 2 * math.lgamma(1 + 1 / k) > target:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)
