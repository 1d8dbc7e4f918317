"""Executors without processes, in which one can see and choose what happens when."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from simserve.study.executor import Died

A = TypeVar("A")
R = TypeVar("R")


class InOrder:
    """Calls here, one after the other; stops as if interrupted after some.

    Attributes:
        called: The arguments so far.
    """

    def __init__(self, stop_after: int = 10**9) -> None:
        self.stop_after = stop_after
        self.called: list[object] = []

    def run(self, call: Callable[[A], R], feed: Callable[[], A | None]) -> Iterator[tuple[A, R | Died]]:
        """See `simserve.study.executor.Executor`."""
        while (argument := feed()) is not None:
            if len(self.called) == self.stop_after:
                raise KeyboardInterrupt
            self.called.append(argument)
            yield argument, call(argument)

    def close(self) -> None:
        """Nothing is held."""


class LastFirst:
    """As many calls under way as there is room for, the youngest of which ends first."""

    def __init__(self, room: int, stop_after: int = 10**9) -> None:
        self.room, self.stop_after = room, stop_after
        self.most_under_way = 0

    def run(self, call: Callable[[A], R], feed: Callable[[], A | None]) -> Iterator[tuple[A, R | Died]]:
        """See `simserve.study.executor.Executor`."""
        under: list[A] = []
        ended = 0
        while True:
            while len(under) < self.room and (argument := feed()) is not None:
                under.append(argument)
            self.most_under_way = max(self.most_under_way, len(under))
            if not under:
                return
            if ended == self.stop_after:
                raise KeyboardInterrupt
            ended += 1
            youngest = under.pop()
            yield youngest, call(youngest)

    def close(self) -> None:
        """Nothing is held."""
