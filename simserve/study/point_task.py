"""One point of a sweep as a task for an executor: simulate it and put its run into its folder."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from simserve.study.failure import describe_failure

_FAILED = "failed.json"


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


def run_task(task: Task) -> Outcome:
    """Simulate and write one point; a failure is recorded beside the folder, and raises nothing.

    A task whose result is there already (its process died after it had written it) is not run again. What
    else lies in its folder, which is the sweep's own, is removed.

    Raises:
        KeyboardInterrupt: If it was interrupted: half a run is no result.
        InputError: If a failure cannot be recorded.
    """
    from simserve.metrics.writer import holds_whole_run
    from simserve.scenario.loader import load_scenario
    from simserve.simulation import simulate
    from simserve.study.load import load_of

    folder = Path(task.folder)
    if holds_whole_run(folder):
        return Outcome(task.identity)
    try:
        if folder.exists():
            shutil.rmtree(folder)
        scenario = load_scenario(task.text)
        result = simulate(scenario, workload=load_of(scenario))
        if result.partial:
            raise KeyboardInterrupt
        result.write(folder)
    except (Exception, SystemExit) as error:  # a policy of the user's may raise anything
        reason = describe_failure(error)
        record_failure(folder, reason)
        return Outcome(task.identity, reason)
    return Outcome(task.identity)


def record_failure(folder: Path, reason: str) -> None:
    """Write why a point has no result beside its folder, whole or not at all.

    Raises:
        InputError: If it cannot be written.
    """
    from simserve.metrics.writer import refuse_io_errors

    path = failure_path(folder)
    with refuse_io_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        fresh.write_text(json.dumps({"reason": reason}, indent=2) + "\n", encoding="utf-8")
        fresh.replace(path)


def read_failure(folder: Path) -> str:
    """Return why a point has no result; "" if nothing is recorded."""
    path = failure_path(folder)
    if not path.is_file():
        return ""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"{path.name} cannot be read"


def failure_path(folder: Path) -> Path:
    """Return the file that says why a point has no result."""
    return folder.with_name(f"{folder.name}.{_FAILED}")
