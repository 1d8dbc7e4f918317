"""The search of `recommend` over a space of candidates: what it asks, and what it finds by the answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from simserve.study.bounds import broken_terms, least_level, most_rate
from simserve.study.candidates import Candidate
from simserve.study.capacity import bisect_rate, shows_rate
from simserve.study.probe import Probe
from simserve.study.search import Answers, UnansweredError
from simserve.study.sizing import Limits, Sizes, find_sizes
from simserve.study.slo_terms import SloTerm
from simserve.workload.workload import Workload

Objective = Literal["cost", "gpus", "throughput_per_gpu", "energy"]
# (the candidate's place in the space, instances of each pool, rate, which seed from the scenario's on)
Question = tuple[int, Sizes, float, int]


@dataclass(frozen=True, slots=True)
class Found:
    """What the search found of one candidate.

    Attributes:
        number: Its place in the space.
        sizes, rate_per_s: What it holds; no sizes: it is out.
        reason: Why it is out.
        beyond: What breaks: fewer instances, or a higher rate.
        unfinished: Whether the search ended early: fewer instances, or a higher rate, may hold too.
    """

    number: int
    sizes: Sizes = ()
    rate_per_s: float = 0.0
    reason: str = ""
    beyond: tuple[Question, ...] = ()
    unfinished: bool = False


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is known of one candidate beforehand.

    Attributes:
        broken: A term that no number of instances keeps; "" for none.
        level: Instances of the biggest pool that the load needs at the very least.
        most_per_s: Highest rate that the scenario's own instances could serve at the very best.
    """

    broken: str
    level: int
    most_per_s: float


class _ImpossibleError(Exception):
    """A candidate cannot be simulated."""


class SpaceSearch:
    """Asks of one candidate after the other, the one with the best bound first.

    Args:
        space: The candidates by their place.
        workload: The load.
        slo: Terms that must hold.
        objective: What the best is best in.
        rate_per_s: Requests a second; where the rate is searched for, the one to begin with.
        limits: What no option may exceed.
        tolerance: Of rates that are searched for.
        runners_up: How many beside the best are wanted: what cannot be among them is not simulated.
        seeds: What holds does so with each of so many.
    """

    def __init__(
        self,
        space: Mapping[int, Candidate],
        workload: Workload,
        slo: Sequence[SloTerm],
        objective: Objective,
        rate_per_s: float,
        limits: Limits,
        tolerance: float,
        runners_up: int,
        seeds: int,
    ) -> None:
        self._space, self._objective, self._rate = space, objective, rate_per_s
        self._limits, self._tolerance, self._runners_up = limits, tolerance, runners_up
        self._seeds = range(seeds)
        # Once: the search is run again for every answer.
        self._bounds = {number: _bounds_of(each, workload, slo, rate_per_s) for number, each in space.items()}
        self._order = sorted(space, key=lambda number: (self._promise(number), number))

    def __call__(self, answers: Answers[Question]) -> list[Found]:
        """Return what is found of each candidate, as far as there are answers."""
        found: list[Found] = []
        answers.hints += [self._first_question(number) for number in self._order]
        for number in self._order:
            try:
                found.append(self._try(number, answers, self._to_beat(found)))
            except UnansweredError:
                found += self._so_far(number, answers)
                break
        return found

    def _so_far(self, number: int, answers: Answers[Question]) -> list[Found]:
        """Return what is known of the candidate at which the search ended early, if anything is."""
        candidate = self._space[number]
        tried = dict.fromkeys((sizes, rate) for each, sizes, rate, _ in answers.path if each == number)
        held = [each for each in tried if self._is_known_to_hold(answers, number, *each)]
        if held:
            # The fewest instances, or the highest rate.
            sizes, rate = min(held, key=lambda each: (self._cost(candidate, each[0]), each[0], -each[1]))
            return [Found(number, sizes, rate, unfinished=True)]
        if any(question in answers.known for question in answers.path if question[0] == number):
            return [Found(number, reason="not finished: nothing that was tried holds")]
        return []

    def _is_known_to_hold(self, answers: Answers[Question], number: int, sizes: Sizes, rate: float) -> bool:
        searched = self._objective == "throughput_per_gpu"
        for question in self._questions(number, sizes, rate):
            probe: Probe | None = answers.known.get(question)
            if probe is None or not probe.holds or (probe.unoffered if searched else probe.held_back):
                return False
        return True

    def _try(self, number: int, answers: Answers[Question], to_beat: float | None) -> Found:
        broken = self._bounds[number].broken
        if broken:
            return Found(number, reason=f"a request alone breaks {broken}")
        try:
            if self._objective == "throughput_per_gpu":
                return self._find_rate(number, partial(self._ask, answers, number, shows_rate), to_beat)
            return self._find_sizes(number, partial(self._ask, answers, number, _shows_size), to_beat)
        except _ImpossibleError as error:
            return Found(number, reason=f"cannot be: {error}")

    def _ask(
        self,
        answers: Answers[Question],
        number: int,
        shows: Callable[[Answers[Question], Question], bool],
        sizes: Sizes,
        rate: float,
    ) -> bool:
        for question in self._questions(number, sizes, rate):
            holds = shows(answers, question)
            probe: Probe | None = answers.known.get(question)
            if probe is not None and probe.error:
                raise _ImpossibleError(probe.error)
            if not holds:
                return False
        return True

    def _questions(self, number: int, sizes: Sizes, rate: float) -> tuple[Question, ...]:
        """Return those of each seed; the first that does not hold ends them."""
        return tuple((number, sizes, rate, seed) for seed in self._seeds)

    def _find_sizes(self, number: int, ask: Callable[[Sizes, float], bool], to_beat: float | None) -> Found:
        candidate = self._space[number]

        def too_much(sizes: Sizes) -> str:
            if to_beat is not None and self._cost(candidate, sizes) > to_beat:
                return "more accelerators than others" if self._objective == "gpus" else "dearer than others"
            return self._limits.exceeded(candidate, sizes)

        level = self._bounds[number].level
        sized = find_sizes(candidate, level, lambda sizes: ask(sizes, self._rate), too_much)
        beyond = tuple(
            question for sizes in sized.smaller for question in self._questions(number, sizes, self._rate)
        )
        return Found(number, sized.sizes, self._rate, sized.reason, beyond)

    def _find_rate(self, number: int, ask: Callable[[Sizes, float], bool], to_beat: float | None) -> Found:
        candidate, most = self._space[number], self._bounds[number].most_per_s
        sizes = _own_sizes(candidate)
        exceeded = self._limits.exceeded(candidate, sizes)
        if exceeded:
            return Found(number, reason=exceeded)
        gpus = candidate.gpus(sizes)
        if to_beat is not None and most / gpus < to_beat:
            return Found(
                number, reason=f"at most {most / gpus:.3g} requests/s an accelerator in the best of batches"
            )
        begin = min(self._rate, most)
        low, high = bisect_rate(lambda rate: ask(sizes, rate), begin, self._tolerance)
        if not low:
            return Found(number, reason=f"no rate holds; the lowest tried is {high or begin:.3g} requests/s")
        beyond = () if high is None else self._questions(number, sizes, high)
        return Found(number, sizes, low, "", beyond)

    def _cost(self, candidate: Candidate, sizes: Sizes) -> float:
        """What is to be least of all sizes; energy is no matter of sizes alone, and bounds nothing."""
        if self._objective == "cost":
            return candidate.usd_per_hour(sizes) or 0.0
        return float(candidate.gpus(sizes)) if self._objective == "gpus" else 0.0

    def _to_beat(self, found: Sequence[Found]) -> float | None:
        """Return what the last of the wanted options has; None as long as there are too few."""
        held = [each for each in found if each.sizes]
        if len(held) <= self._runners_up:
            return None
        if self._objective == "throughput_per_gpu":
            rates = (each.rate_per_s / self._space[each.number].gpus(each.sizes) for each in held)
            return sorted(rates, reverse=True)[self._runners_up]
        return sorted(self._cost(self._space[each.number], each.sizes) for each in held)[self._runners_up]

    def _promise(self, number: int) -> float:
        """Return the best that a candidate could be; the smaller, the better."""
        candidate, bounds = self._space[number], self._bounds[number]
        if self._objective == "throughput_per_gpu":
            return -bounds.most_per_s / candidate.gpus(_own_sizes(candidate))
        return self._cost(candidate, candidate.sizes_at(bounds.level))

    def _first_question(self, number: int) -> Question:
        candidate, bounds = self._space[number], self._bounds[number]
        if self._objective == "throughput_per_gpu":
            return number, _own_sizes(candidate), min(self._rate, bounds.most_per_s), 0
        return number, candidate.sizes_at(bounds.level), self._rate, 0


def _shows_size(answers: Answers[Question], question: Question) -> bool:
    """Ask whether so many instances hold a rate.

    Raises:
        _ImpossibleError: If they do what is asked of them, but the requests do not offer the rate.
    """
    holds = answers(question)
    probe: Probe | None = answers.known.get(question)
    if holds and probe is not None and probe.held_back:
        raise _ImpossibleError(probe.unoffered)
    return holds


def _bounds_of(candidate: Candidate, workload: Workload, slo: Sequence[SloTerm], rate_per_s: float) -> Bounds:
    broken = broken_terms(candidate, workload, slo)
    most = most_rate(candidate, workload) * sum(_own_sizes(candidate))
    return Bounds(broken[0].text if broken else "", least_level(candidate, workload, rate_per_s), most)


def _own_sizes(candidate: Candidate) -> Sizes:
    return tuple(pool.replicas for pool in candidate.scenario.pools)
