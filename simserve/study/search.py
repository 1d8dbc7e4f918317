"""Searches by yes-no questions, each answered by a simulation, many at a time.

A search is a plain function that asks one question after the other and returns what it found. To keep several
processes busy it is run again on what is known so far: the question that it stops at is asked first, then
those that it would ask if the answer to that were yes, or no. So it takes the same way, and finds the same,
however many processes there are; they only find it sooner.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from simserve.study.executor import Died, Executor
from simserve.study.probe import Probe, ProbeTask, probe_rate

Q = TypeVar("Q", bound=Hashable)
R = TypeVar("R")

# Questions that may be asked ahead: the tree of what might be asked is no deeper.
_MOST_AHEAD = 64


class UnansweredError(Exception):
    """A search cannot go on: the answer to a question is not there, or no more may be asked."""


@dataclass(slots=True)
class Answers(Generic[Q]):
    """What a search may ask.

    Attributes:
        known: Answers that are there.
        most: Questions that may be asked.
        assumed: Answers that are supposed, to see what would be asked next.
        path: The questions that were asked, in order, each once.
        hints: Questions that are likely to be asked later on, the likeliest first.
        missing: The question at which it stopped; None if there was none.
        spent: Whether it stopped because no more may be asked.
    """

    known: Mapping[Q, Probe]
    most: int | None = None
    assumed: Mapping[Q, bool] = field(default_factory=dict)
    path: list[Q] = field(default_factory=list)
    hints: list[Q] = field(default_factory=list)
    missing: Q | None = None
    spent: bool = False

    def __call__(self, question: Q) -> bool:
        """Return the answer.

        Raises:
            UnansweredError: If it is not there.
        """
        if question not in self.path:
            if self.most is not None and len(self.path) >= self.most:
                self.spent = True
                raise UnansweredError
            self.path.append(question)
        if question in self.known:
            return self.known[question].holds
        if question in self.assumed:
            return self.assumed[question]
        self.missing = question
        raise UnansweredError


# Asks, and returns what it found; catches `UnansweredError`, and returns then what it has found by that time.
Search = Callable[[Answers[Q]], R]


@dataclass(frozen=True, slots=True)
class Findings(Generic[Q, R]):
    """What searches found.

    Attributes:
        found: What each returned, in their order.
        paths: What each asked, in order, and the answers.
        stopped: "interrupted", "out of time" or "out of probes", if they were; then `found` is what they had
            by then. "" if they ended.
    """

    found: tuple[R, ...]
    paths: tuple[tuple[tuple[Q, Probe], ...], ...]
    stopped: str


def run_searches(
    searches: Sequence[Callable[[Answers[Q]], R]],
    task_of: Callable[[Q], ProbeTask],
    executor: Executor,
    *,
    told: Callable[[Q, Probe], None] | None = None,
    progress: Callable[[int], None] | None = None,
    most: int | None = None,
    most_s: float | None = None,
) -> Findings[Q, R]:
    """Run searches that do not depend on each other, side by side.

    Args:
        searches: Functions that ask.
        task_of: Returns the simulation that answers a question.
        executor: Where they run.
        told: Called with every question and its answer, in the order in which the searches, one after the
            other, ask.
        progress: Called with how many simulations have ended, those in vain among them.
        most: Questions that each may ask; None: any number.
        most_s: Seconds after which they are stopped; None: never.
    """
    known: dict[Q, Probe] = {}
    begun: set[Q] = set()
    teller = _Teller(searches, known, most, told)
    until_s = None if most_s is None else time.monotonic() + most_s

    def feed() -> tuple[Q, ProbeTask] | None:
        question = _next_question(searches, known, begun, most)
        if question is None:
            return None
        begun.add(question)
        return question, task_of(question)

    stopped = ""
    ended = executor.run(_answer, feed)
    try:
        for (question, task), found in ended:
            # One that was asked ahead may never be needed: its death ends nothing.
            if isinstance(found, Died):
                found = Probe(task.rate_per_s or 0.0, False, error=found.reason, died=True)
            known[question] = found
            if progress is not None:
                progress(len(known))
            if teller.tell():
                break
            if until_s is not None and time.monotonic() > until_s:
                stopped = "out of time"
                break
    except KeyboardInterrupt:
        stopped = "interrupted"
    finally:
        close = getattr(ended, "close", None)
        if close is not None:
            close()
    asked = [Answers(known, most) for _ in searches]
    found_by = tuple(search(each) for search, each in zip(searches, asked, strict=True))
    paths = tuple(tuple((q, known[q]) for q in each.path if q in known) for each in asked)
    if not stopped and any(each.spent for each in asked):
        stopped = "out of probes"
    return Findings(found_by, paths, stopped)


def _answer(asked: tuple[Q, ProbeTask]) -> Probe:
    return probe_rate(asked[1])


def _next_question(
    searches: Sequence[Callable[[Answers[Q]], R]],
    known: Mapping[Q, Probe],
    begun: set[Q],
    most: int | None,
) -> Q | None:
    """Return the question that is most likely to be asked and is not under way; None if none is foreseen."""
    # Breadth first: what all searches wait for, what they would ask after one answer, then what they hint
    # at, and so on.
    waiting: deque[tuple[Callable[[Answers[Q]], R], dict[Q, bool]]] = deque((each, {}) for each in searches)
    hints: list[Q] = []
    for _ in range(_MOST_AHEAD + len(searches)):
        if not waiting:
            break
        if len(waiting[0][1]) > 1:
            for hint in hints:
                if hint not in begun:
                    return hint
            hints = []
        search, assumed = waiting.popleft()
        answers = Answers(known, most, assumed)
        search(answers)
        question = answers.missing
        if question is None:
            continue
        if question not in begun:
            return question
        if not assumed:
            hints += answers.hints
        waiting += [(search, {**assumed, question: True}), (search, {**assumed, question: False})]
    return next((hint for hint in hints if hint not in begun), None)


class _Teller(Generic[Q]):
    """Tells of answers in the order in which the searches ask, whatever order they come in."""

    def __init__(
        self,
        searches: Sequence[Callable[[Answers[Q]], object]],
        known: Mapping[Q, Probe],
        most: int | None,
        told: Callable[[Q, Probe], None] | None,
    ) -> None:
        self._searches, self._known, self._most, self._told = searches, known, most, told
        self._at, self._count = 0, 0

    def tell(self) -> bool:
        """Tell of what is new; returns whether all searches have ended."""
        while self._at < len(self._searches):
            answers = Answers(self._known, self._most)
            self._searches[self._at](answers)
            path = [question for question in answers.path if question in self._known]
            if self._told is not None:
                for question in path[self._count :]:
                    self._told(question, self._known[question])
            self._count = len(path)
            if answers.missing is not None:
                return False
            self._at, self._count = self._at + 1, 0
        return True
