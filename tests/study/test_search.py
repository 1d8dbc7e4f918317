"""Searches side by side: they ask what they would ask alone, and find the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from simserve.scenario.loader import load_scenario
from simserve.study.capacity import bisect_rate
from simserve.study.executor import Died
from simserve.study.probe import Probe, ProbeTask
from simserve.study.search import Answers, UnansweredError, run_searches

SCENARIO = load_scenario("quickstart")
Question = tuple[int, float]


class Oracle:
    """Answers without simulating: a rate holds up to a limit of its search. The youngest question first.

    Attributes:
        asked: All questions, those in vain among them.
    """

    def __init__(self, limits: list[float], room: int) -> None:
        self.limits, self.room = limits, room
        self.asked: list[Question] = []

    def run(self, call: Callable[[Any], Any], feed: Callable[[], Any]) -> Iterator[tuple[Any, Any]]:
        under: list[Any] = []
        while True:
            while len(under) < self.room and (argument := feed()) is not None:
                under.append(argument)
                self.asked.append(argument[0])
            if not under:
                return
            asked = under.pop()
            number, rate = asked[0]
            yield asked, Probe(rate, rate <= self.limits[number])

    def close(self) -> None:
        pass


def searching(number: int) -> Callable[[Answers[Question]], float]:
    def search(answers: Answers[Question]) -> float:
        try:
            return bisect_rate(lambda rate: answers((number, rate)), 1.0, 0.1)[0]
        except UnansweredError:
            return -1.0

    return search


def task_of(question: Question) -> ProbeTask:
    return ProbeTask(SCENARIO, (), question[1])


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=3), st.integers(1, 9))
def test_any_number_of_processes_finds_the_same_by_the_same_questions(limits: list[float], room: int) -> None:
    searches = [searching(number) for number in range(len(limits))]
    told: list[Question] = []
    alone = run_searches(searches, task_of, Oracle(limits, 1))
    oracle = Oracle(limits, room)
    found = run_searches(searches, task_of, oracle, told=lambda question, _: told.append(question))
    assert found == alone
    assert told == [question for path in alone.paths for question, _ in path]
    assert len(set(oracle.asked)) == len(oracle.asked)
    for limit, rate in zip(limits, found.found, strict=True):
        assert rate <= limit < rate * 1.1 * (1 + 1e-9)


def test_one_process_asks_nothing_in_vain() -> None:
    oracle = Oracle([7.0], 1)
    found = run_searches([searching(0)], task_of, oracle)
    assert [question for question, _ in found.paths[0]] == oracle.asked


def test_a_limit_of_questions_counts_those_of_the_way_alone() -> None:
    for room in (1, 6):
        found = run_searches([searching(0)], task_of, Oracle([7.0], room), most=3)
        assert found.stopped == "out of probes"
        assert [rate for (_, rate), _ in found.paths[0]] == [1.0, 2.0, 4.0]


def test_hints_are_followed_before_unlikely_answers() -> None:
    def search(answers: Answers[Question]) -> bool:
        answers.hints += [(0, 50.0), (0, 60.0)]
        try:
            return answers((0, 1.0)) and answers((0, 2.0)) and answers((0, 3.0))
        except UnansweredError:
            return False

    oracle = Oracle([100.0], 4)
    run_searches([search], task_of, oracle)
    assert [rate for _, rate in oracle.asked[:4]] == [1.0, 2.0, 50.0, 60.0]


def test_out_of_time_is_told() -> None:
    found = run_searches([searching(0)], task_of, Oracle([7.0], 1), most_s=0.0)
    assert found.stopped == "out of time"
    assert len(found.paths[0]) == 1


def test_a_death_is_an_answer_and_only_matters_on_the_way() -> None:
    class Deadly(Oracle):
        def run(self, call: Callable[[Any], Any], feed: Callable[[], Any]) -> Iterator[tuple[Any, Any]]:
            for asked, probe in super().run(call, feed):
                yield asked, Died("its process died") if asked[0][1] > 7.9 else probe

    for room in (1, 6):
        (path,) = run_searches([searching(0)], task_of, Deadly([7.0], room)).paths
        assert [probe.error for (_, rate), probe in path if rate > 7.9] == ["its process died"]
