"""Work in several processes, whose results come in the order of the work."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

# Parts that wait for each process.
_AHEAD = 3

Given = TypeVar("Given")
Result = TypeVar("Result")


def in_processes(
    function: Callable[[Given], Sequence[Result]], parts: Iterable[Given], workers: int
) -> Iterator[Result]:
    """Yield what a function returns for each part, in the order of the parts.

    Args:
        function: Of a module, so that another process finds it.
        parts: Read as far ahead as keeps the processes busy, since they are large.
        workers: Processes; with 1 this one does it.
    """
    if workers <= 1:
        for part in parts:
            yield from function(part)
        return
    from concurrent.futures import Future, ProcessPoolExecutor
    from multiprocessing import get_context

    # A fresh process: threads of libraries that this one has loaded do not survive a fork.
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        waiting: deque[Future[Sequence[Result]]] = deque()
        for part in parts:
            waiting.append(pool.submit(function, part))
            if len(waiting) > _AHEAD * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
