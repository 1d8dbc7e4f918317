"""Measures the planned cases one after the other until the time is up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .clock import Clock, measure_s
from .launches import Ready
from .plan import Case
from .writer import TableWriter

_REASON_LENGTH = 100
# What libraries raise for a shape or dtype that they lack, and PyTorch for want of memory.
_CANNOT_RUN = (RuntimeError, ValueError, TypeError, AttributeError, ImportError, OSError)


class Builder(Protocol):
    """Turns cases into launches."""

    def build(self, case: Case) -> Iterator[Ready]:
        """Yield a `Ready` for each library that can run the case."""


@dataclass
class Outcome:
    """What came of a run.

    Attributes:
        measured: Rows written.
        skipped: Why cases could not run, each reason with its count.
        left: Cases for which there was no time.
    """

    measured: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    left: int = 0


def profile(
    cases: Sequence[Case],
    builder: Builder,
    clock: Clock,
    writer: TableWriter,
    deadline_s: float,
    now: Callable[[], float] = time.monotonic,
    release: Callable[[], None] = lambda: None,
) -> Outcome:
    """Measure cases in order until the deadline and write a row for each.

    A case that cannot run here (a dtype without units, too little memory, a library's limit) is skipped and
    counted; it does not end the run.

    Args:
        cases: From `plan_cases`.
        builder: Makes their launches.
        clock: Times them.
        writer: Takes the rows; is mutated.
        deadline_s: In the seconds of `now`.
        now: The time.
        release: Called after each case, to give its memory back.
    """
    outcome = Outcome()
    for place, case in enumerate(cases):
        if now() >= deadline_s:
            outcome.left = len(cases) - place
            break
        for framework, kernel, prepare in builder.build(case):
            try:
                seconds = measure_s(clock, prepare())
            except _CANNOT_RUN as error:
                told = str(error).strip().splitlines() or [type(error).__name__]
                reason = f"{case.table}, {kernel}: {told[0][:_REASON_LENGTH]}"
                outcome.skipped[reason] = outcome.skipped.get(reason, 0) + 1
            else:
                writer.write(case.table, {"framework": framework, **case.columns}, kernel, seconds)
                outcome.measured += 1
            release()
    return outcome
