"""How many instances a candidate needs, and what it may not exceed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from simserve.study.candidates import Candidate

Sizes = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """What no option may exceed.

    Attributes:
        gpus: Accelerators.
        usd_per_hour: Price of all of them; None: any, also an unknown one.
    """

    gpus: int = 64
    usd_per_hour: float | None = None

    def exceeded(self, candidate: Candidate, sizes: Sizes) -> str:
        """Return what so many instances would exceed; "" for nothing."""
        if candidate.gpus(sizes) > self.gpus:
            return f"more than {self.gpus} accelerators"
        if self.usd_per_hour is not None:
            usd = candidate.usd_per_hour(sizes)
            if usd is None:
                return "its price is not known"
            if usd > self.usd_per_hour:
                return f"more than {self.usd_per_hour:g} USD an hour"
        return ""


@dataclass(frozen=True, slots=True)
class Sized:
    """What was found.

    Attributes:
        sizes: Instances of each pool; empty: out.
        reason: Why it is out.
        smaller: Sizes that were tried with an instance fewer, and break something.
    """

    sizes: Sizes = ()
    reason: str = ""
    smaller: tuple[Sizes, ...] = ()


def find_sizes(
    candidate: Candidate,
    least: int,
    holds: Callable[[Sizes], bool],
    too_much: Callable[[Sizes], str],
) -> Sized:
    """Find the fewest instances that hold, by doubling and bisection.

    Several pools grow together, in the proportions of the scenario, until they hold; then each in turn, the
    one with the most accelerators an instance first, gives up the instances that it can spare.

    Args:
        candidate: The configuration.
        least: Instances of the biggest pool to begin with.
        holds: Asked for sizes.
        too_much: Returns why sizes are out of the question, or "".
    """
    most = _last(least, lambda level: not too_much(candidate.sizes_at(level)))
    if most < least:
        return Sized(reason=f"needs {_count(least)} at least: {too_much(candidate.sizes_at(least))}")
    low, high, step = least - 1, least, 1
    while not holds(candidate.sizes_at(high)):
        if high == most:
            beyond = too_much(candidate.sizes_at(most + 1))
            return Sized(reason=f"does not hold with {_count(most)}: one more is {beyond}")
        low, step = high, 2 * step
        high = min(high + step, most)
    high = _first(low, high, lambda level: holds(candidate.sizes_at(level)))
    sizes = candidate.sizes_at(high)
    if len(sizes) == 1:
        return Sized(sizes, smaller=((high - 1,),) if high - 1 >= least else ())
    return _spare(candidate, sizes, holds)


def _spare(candidate: Candidate, sizes: Sizes, holds: Callable[[Sizes], bool]) -> Sized:
    smaller = []
    for pool in sorted(range(len(sizes)), key=lambda pool: (-candidate.accelerators(pool), pool)):
        fewest = _first(0, sizes[pool], partial(_holds_with, holds, sizes, pool))
        if fewest > 1:
            smaller.append(_resize(sizes, pool, fewest - 1))
        sizes = _resize(sizes, pool, fewest)
    return Sized(sizes, smaller=tuple(smaller))


def _holds_with(holds: Callable[[Sizes], bool], sizes: Sizes, pool: int, size: int) -> bool:
    return holds(_resize(sizes, pool, size))


def _resize(sizes: Sizes, pool: int, size: int) -> Sizes:
    return (*sizes[:pool], size, *sizes[pool + 1 :])


def _count(instances: int) -> str:
    return "1 instance" if instances == 1 else f"{instances:,} instances"


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Return the first that holds above `low`, which does not, up to `high`, which does."""
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high


def _last(first: int, allowed: Callable[[int], bool]) -> int:
    """Return the last level from the first on that is allowed; the one before the first if none is."""
    if not allowed(first):
        return first - 1
    beyond = 2 * first
    while allowed(beyond):
        beyond *= 2
    return _first(first, beyond, lambda level: not allowed(level)) - 1
