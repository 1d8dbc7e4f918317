"""Where many simulations run: here, in processes of this machine, or on Ray (`ray_executor`).

One shape for all: `run` calls a function for whatever a study feeds it, and yields what became of each as it
ends, in any order. What to feed next may depend on what has been yielded: a sweep feeds its points, a search
what it wants to know next.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from typing import Any, Protocol, TypeVar

A = TypeVar("A")
R = TypeVar("R")

# A process that dies (killed, out of memory) may have been ill-fated; what it did is tried so often in all.
MOST_TRIES = 3


@dataclass(frozen=True, slots=True)
class Died:
    """In place of a result: every process that tried died."""

    reason: str


class Executor(Protocol):
    """Calls a function many times."""

    def run(self, call: Callable[[A], R], feed: Callable[[], A | None]) -> Iterator[tuple[A, R | Died]]:
        """Yield each argument and what the call returned, as calls end; closing the iterator stops them.

        Args:
            call: A module's function; what it raises ends the iteration.
            feed: Asked for an argument whenever there is room for a call; None: nothing at the moment. It
                ends when there is nothing and no call is under way.
        """

    def close(self) -> None:
        """Let go of what is held."""


class InProcess:
    """This process: one call after the other."""

    def run(self, call: Callable[[A], R], feed: Callable[[], A | None]) -> Iterator[tuple[A, R | Died]]:
        """See `Executor`."""
        while (argument := feed()) is not None:
            yield argument, call(argument)

    def close(self) -> None:
        """Nothing is held."""


class LocalExecutor:
    """Processes of this machine, reused from call to call.

    Args:
        workers: Processes; None: one a core.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or count_cores()

    def run(self, call: Callable[[A], R], feed: Callable[[], A | None]) -> Iterator[tuple[A, R | Died]]:
        """See `Executor`; what was under way when a process died is tried again in fresh ones."""
        suspects: deque[tuple[A, int]] = deque()
        while not (yield from self._run_until_death(call, feed, suspects)):
            pass

    def close(self) -> None:
        """Nothing is held between runs."""

    def _run_until_death(
        self, call: Callable[[A], R], feed: Callable[[], A | None], suspects: deque[tuple[A, int]]
    ) -> Any:
        """Run until all is done or a process dies; returns whether all is done.

        One death breaks the whole pool, and does not say which call it was. So all that were under way are
        tried again one at a time: who is innocent ends, who is not is found out.

        Args:
            call, feed: As of `run`.
            suspects: Arguments that were under way at a death, and how often; changed.
        """
        # Spawned, not forked: a fork of a process with threads (numpy, arrow) may hang.
        pool = ProcessPoolExecutor(self.workers, get_context("spawn"), initializer=_serve)
        under: dict[Future[R], tuple[A, int]] = {}
        died: list[tuple[A, int]] = []
        try:
            while not died:
                if suspects:
                    if not under:
                        item = suspects.popleft()
                        under[pool.submit(call, item[0])] = item
                else:
                    while len(under) < self.workers and (argument := feed()) is not None:
                        under[pool.submit(call, argument)] = (argument, 0)
                if not under:
                    return True
                ended, _ = wait(under, return_when=FIRST_COMPLETED)
                for future in ended:
                    item = under.pop(future)
                    try:
                        result = future.result()
                    except BrokenProcessPool:
                        died.append(item)
                        continue
                    yield item[0], result
            for argument, tries in [*died, *under.values()]:
                if tries + 1 < MOST_TRIES:
                    suspects.append((argument, tries + 1))
                else:
                    yield argument, Died(f"its process died {MOST_TRIES} times (killed, or out of memory)")
            return False
        finally:
            _end(pool)


def _end(pool: ProcessPoolExecutor) -> None:
    """End a pool now, whatever its processes are at."""
    for process in list((pool._processes or {}).values()):
        process.terminate()
    pool.shutdown(wait=True, cancel_futures=True)


def count_cores() -> int:
    """Return how many cores this process may use."""
    return max(1, len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _serve() -> None:
    """Prepare a process of the pool: Ctrl-C is for the parent, and without the parent there is nothing to do.

    A pool's process that waits for work does not notice that its parent was killed.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
