"""Where many simulations run: in processes of this machine, or on Ray (`ray_executor`).

One shape for both: `run` takes tasks and yields what became of each as it ends, in any order.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol

from simserve.errors import SimserveError

# A process that dies (out of memory, killed) may have been ill-fated; its tasks are tried so often in all.
MOST_TRIES = 3
FAILED = "failed.json"


@dataclass(frozen=True, slots=True)
class Task:
    """One simulation.

    Attributes:
        identity: Its name.
        text: The resolved scenario.
        folder: Where its result goes; made by the run, whole or not at all.
    """

    identity: str
    text: str
    folder: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a task.

    Attributes:
        identity: The task's.
        error: Why it failed; "" if its result is in its folder.
    """

    identity: str
    error: str = ""


class Executor(Protocol):
    """Runs tasks."""

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Yield the outcome of each task as it ends; closing the iterator stops the others."""


def run_task(task: Task) -> Outcome:
    """Simulate and write one point; a failure is recorded in the folder's place, and raises nothing."""
    from simserve.scenario.loader import load_scenario
    from simserve.simulation import simulate

    folder = Path(task.folder)
    try:
        result = simulate(load_scenario(task.text))
        result.write(folder)
    except SimserveError as error:
        record_failure(folder, str(error))
        return Outcome(task.identity, str(error))
    return Outcome(task.identity)


def record_failure(folder: Path, reason: str) -> None:
    """Write why a point has no result beside its folder, whole or not at all."""
    path = failure_path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(json.dumps({"reason": reason}, indent=2) + "\n", encoding="utf-8")
    fresh.replace(path)


def failure_path(folder: Path) -> Path:
    """Return the file that says why a point has no result."""
    return folder.with_name(f"{folder.name}.{FAILED}")


class LocalExecutor:
    """Processes of this machine, reused from task to task.

    Args:
        workers: Processes; None: one a core.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or max(1, len(os.sched_getaffinity(0)))

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Yield outcomes as they come; tasks of a process that died are tried again in a fresh one."""
        left = {task.identity: (task, 0) for task in tasks}
        while left:
            yield from self._run_once(left)

    def _run_once(self, left: dict[str, tuple[Task, int]]) -> Iterator[Outcome]:
        """Run what is left until it is done or a process dies; takes from `left` what has ended."""
        # Spawned, not forked: a fork of a process with threads (numpy, arrow) may hang.
        pool = ProcessPoolExecutor(min(self.workers, len(left)), get_context("spawn"))
        waiting: dict[Future[Outcome], str] = {}
        queue = iter(list(left))
        try:
            for identity in queue:
                waiting[pool.submit(run_task, left[identity][0])] = identity
                # A few beyond the workers: enough to keep them busy, few enough to stop soon.
                if len(waiting) >= 2 * self.workers:
                    break
            while waiting:
                ended, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in ended:
                    identity = waiting.pop(future)
                    outcome = future.result()
                    del left[identity]
                    yield outcome
                    following = next(queue, None)
                    if following is not None:
                        waiting[pool.submit(run_task, left[following][0])] = following
        except BrokenProcessPool:
            yield from self._note_deaths(left, [*waiting.values(), identity])
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list((pool._processes or {}).values()):
                process.terminate()

    def _note_deaths(self, left: dict[str, tuple[Task, int]], begun: Sequence[str]) -> Iterator[Outcome]:
        """Count a try of all that were under way; give up those that have had enough."""
        for identity in [name for name in begun if name in left]:
            task, tries = left[identity]
            if tries + 1 < MOST_TRIES:
                left[identity] = (task, tries + 1)
                continue
            del left[identity]
            reason = f"its process died {MOST_TRIES} times (killed, or out of memory)"
            record_failure(Path(task.folder), reason)
            yield Outcome(identity, reason)
