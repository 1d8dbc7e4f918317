"""Invariants of the engine kinds of the base under random loads, and mutants that they catch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from kind_checks import check_all
from kind_loads import OPTIONS, build_load

from simserve import registry
from simserve.errors import IntegrityError, SimulationError

LOADS = 60


@pytest.mark.parametrize("kind", OPTIONS)
def test_random_loads(kind: str) -> None:
    preempted = 0
    for seed in range(LOADS):
        journal = check_all(kind, registry.lookup("engine", kind), build_load(kind, seed))
        preempted += sum(len(decision.preempted) for decision in journal.decisions)
    if kind not in ("orca", "static", "dynamic"):
        least = 5 if kind == "lightllm" else 25
        assert preempted > least, "hardly anybody was preempted: the loads show nothing"


# -- mutants: each must break a check -----------------------------------------------------------------------


def losing_a_block(base: type) -> type:
    """Give back one block too few, now and then."""

    class Losing(base):  # type: ignore[misc]
        def _forget(self, sequence):  # type: ignore[no-untyped-def]
            if sequence.id % 3 == 1 and sequence.private:
                sequence.private -= 1
            super()._forget(sequence)

    return Losing


def losing_a_region(base: type) -> type:
    """Do not give back a region, now and then."""

    class Losing(base):  # type: ignore[misc]
        def _forget(self, sequence):  # type: ignore[no-untyped-def]
            if sequence.id % 3 == 1:
                self.cache.release = lambda table: None
            super()._forget(sequence)
            self.cache.__dict__.pop("release", None)

    return Losing


def taking_the_first(base: type) -> type:
    """Preempt whoever was admitted first."""

    class TakingTheFirst(base):  # type: ignore[misc]
        def choose_victim(self, sequence):  # type: ignore[no-untyped-def]
            return self.ready()[0]

    return TakingTheFirst


def making_room(base: type) -> type:
    """Preempt the last admitted for a newcomer, although memory is reserved to avoid that."""

    class MakingRoom(base):  # type: ignore[misc]
        def decide(self):  # type: ignore[no-untyped-def]
            super().decide()
            if len(self.waiting) and len(self.ready()) > 1 and self.admission == 2:
                self.preempt(self.ready()[-1])

    return MakingRoom


def letting_go_early(base: type) -> type:
    """Return a request as soon as it has ended, before the others of its batch."""

    class LettingGo(base):  # type: ignore[misc]
        def complete(self, batch=None):  # type: ignore[no-untyped-def]
            step = self._in_flight[0].step
            ended = super().complete(batch)
            early = [each for each in self.running if each.outputs >= each.limit]
            for sequence in early:
                self._return(sequence, step)
            return ended + early

    return LettingGo


def serving_the_last_of_equals(base: type) -> type:
    """Serve those that arrive together in reverse order."""

    class Reversed(base):  # type: ignore[misc]
        def add(self, request, arrival_order, arrived_ns=0):  # type: ignore[no-untyped-def]
            sequence = super().add(request, arrival_order, arrived_ns)
            queue = self.waiting
            queue = getattr(queue, "_rest", queue)
            queue.pop()
            place = len(queue)
            while place and queue[place - 1].arrived_ns == arrived_ns and queue[place - 1].first_step < 0:
                place -= 1
            queue.insert(place, sequence)
            return sequence

    return Reversed


def breaking_its_promise(base: type) -> type:
    """Count half of what a request may still need."""

    class Breaking(base):  # type: ignore[misc]
        def _blocks_to_end(self, sequence):  # type: ignore[no-untyped-def]
            return super()._blocks_to_end(sequence) // 2

    return Breaking


def pausing_the_first(base: type) -> type:
    """Pause whoever arrived first when the blocks do not suffice."""

    class PausingTheFirst(base):  # type: ignore[misc]
        def _fit_next_step(self):  # type: ignore[no-untyped-def]
            ready = self.ready()
            needed = sum(self._blocks_of_next_step(each) for each in ready)
            if len(ready) > 1 and needed > self.pool.num_free:
                self.preempt(min(ready, key=self._rank))
            return super()._fit_next_step()

    return PausingTheFirst


def serving_the_latest_of_ranks(base: type) -> type:
    """Let the latest of those that came to a level together go first."""

    class Latest(base):  # type: ignore[misc]
        def add(self, request, arrival_order, arrived_ns=0):  # type: ignore[no-untyped-def]
            return super().add(request, -arrival_order, arrived_ns)

    return Latest


def offloading_the_next(base: type) -> type:
    """Let the host have the blocks of those who are next."""

    class OffloadingTheNext(base):  # type: ignore[misc]
        def _list_others(self, keeps):  # type: ignore[no-untyped-def]
            return super()._list_others(keeps)[::-1]

    return OffloadingTheNext


MUTANTS = {
    "tensorrt-llm": (losing_a_block, pausing_the_first, breaking_its_promise, serving_the_last_of_equals),
    "lightllm": (losing_a_block, taking_the_first, serving_the_last_of_equals),
    "fastserve": (losing_a_block, offloading_the_next, serving_the_latest_of_ranks),
    "sarathi": (losing_a_block, taking_the_first, serving_the_last_of_equals),
    "vllm-v0": (losing_a_block, taking_the_first, serving_the_last_of_equals),
    "orca": (losing_a_region, making_room, serving_the_last_of_equals),
    "static": (losing_a_block, letting_go_early, serving_the_last_of_equals),
    "dynamic": (losing_a_block, letting_go_early, serving_the_last_of_equals),
}


@pytest.mark.parametrize(
    ("kind", "mutate"), [(kind, mutate) for kind, mutants in MUTANTS.items() for mutate in mutants]
)
def test_mutants_are_caught(kind: str, mutate: Callable[[type], type]) -> None:
    mutant = mutate(registry.lookup("engine", kind))

    def check_until_caught() -> None:
        for seed in range(LOADS // 2):
            check_all(kind, mutant, build_load(kind, seed))

    with pytest.raises((AssertionError, IntegrityError, SimulationError)):
        check_until_caught()


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_mutant_that_changes_nothing_is_not_caught(kind: str) -> None:
    """The checks do not fail because a class is a subclass."""
    base = registry.lookup("engine", kind)
    for seed in range(5):
        check_all(kind, type("Same", (base,), {}), build_load(kind, seed))
