"""Runs in a process of their own: any page may start, look at and stop them, after a reload too."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from threading import RLock

from dashboard.folders import RUNS, roots, run_folder
from simserve import identify, load_scenario

_PROGRESS, _ERROR = "progress.json", "error.txt"
# A folder's name ends with so many digits of what tells its run from all others.
_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Order:
    """A run that is asked for.

    Attributes:
        source: A scenario: its path, the name of a shipped one, or its text.
        overrides: `key=value` each, as `--set` takes them.
    """

    source: str
    overrides: tuple[str, ...] = ()

    def folder(self) -> Path:
        """Return where its result belongs: a folder for all that it depends on, whatever it is called.

        Raises:
            ScenarioError: If the scenario is wrong, or asks for more than a stranger's may.
        """
        found = load_scenario(self.source, self.overrides, allow_imports=False, allow_files=roots())
        changes = (change.rpartition(".")[2] for change in self.overrides)
        return run_folder(identify(found), " ".join((found.name, *changes)))


@dataclass(slots=True, eq=False)
class Job:
    """A run that is under way, or has ended.

    Attributes:
        folder: Where its result will be.
        notes: Where the process leaves word while it runs; None where the result was there already.
        process: It; None likewise.
        started_s: When, on the clock of `time.monotonic`.
        stopping: Whether it has been asked to end.
        error: Why it failed; "" if it has not.
    """

    folder: Path
    notes: Path | None = None
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    stopping: bool = False
    error: str = ""

    @property
    def identity(self) -> str:
        """What an address calls it."""
        return self.folder.name[-_DIGITS:]

    @property
    def running(self) -> bool:
        """Whether the process is at work."""
        if self.process is None or self.process.poll() is None:
            return self.process is not None
        self._take_notes()
        return False

    @property
    def progress(self) -> tuple[float, int, int]:
        """Simulated seconds, requests that have ended, and all of them (0: not known yet)."""
        if self.notes is None:
            return 0.0, 0, 0
        try:
            found = json.loads((self.notes / _PROGRESS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return 0.0, 0, 0
        return found["now_s"], found["ended"], found["total"]

    def stop(self) -> None:
        """Ask the run to end; what is complete becomes its result, marked as partial."""
        # Only once: a second interrupt would end it before that is written.
        if self.running and self.process is not None and not self.stopping:
            self.stopping = True
            self.process.send_signal(signal.SIGINT)

    def _take_notes(self) -> None:
        """Keep why the ended process failed, and remove what it left."""
        with _LOCK:
            if self.notes is None or self.process is None:
                return
            if self.process.returncode:
                status = f"the process ended with status {self.process.returncode}"
                self.error = _read_text(self.notes / _ERROR) or status
                if self.stopping:
                    self.error = "stopped before there was anything to show"
            shutil.rmtree(self.notes, ignore_errors=True)
            self.notes = None


_LOCK = RLock()
# Of this process, all its pages and visitors: by the folder of the result.
_JOBS: dict[Path, Job] = {}


def start_job(order: Order, *, fresh: bool = False) -> Job:
    """Start a run; one that is under way or whose result is there is not run again.

    Args:
        order: What to run.
        fresh: Run even if the result is there.

    Raises:
        ScenarioError: As `Order.folder`.
    """
    folder = order.folder()
    with _LOCK:
        known = _JOBS.get(folder)
        if known is not None and known.running:
            return known
        if not fresh and _is_whole(folder):
            return Job(folder)
        _JOBS[folder] = job = _start(order, folder)
        return job


def find_job(identity: str) -> Job | None:
    """Return the run that an address calls so: one that was started here, or whose result is there."""
    known = next((job for job in list(_JOBS.values()) if job.identity == identity), None)
    if known is not None:
        return known
    home = roots()[0] / RUNS
    found = [path.parent for path in home.glob("*/summary.json") if path.parent.name[-_DIGITS:] == identity]
    return Job(found[0]) if found else None


def _start(order: Order, folder: Path) -> Job:
    notes = Path(mkdtemp(prefix="simserve-run-"))
    (notes / "order.json").write_text(
        json.dumps({"source": order.source, "overrides": order.overrides, "out": str(folder)}),
        encoding="utf-8",
    )
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(_search_path())}
    with open(notes / _ERROR, "wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "dashboard.run_process", str(notes)], env=environment, stderr=errors
        )
    return Job(folder, notes, process, time.monotonic())


@atexit.register
def _end_jobs() -> None:
    """End the runs that are under way: nobody would see them."""
    for job in _JOBS.values():
        if job.running and job.process is not None:
            job.process.terminate()
            job.process.wait()
            job._take_notes()


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _is_whole(folder: Path) -> bool:
    try:
        return not json.loads((folder / "summary.json").read_text(encoding="utf-8"))["partial"]
    except (OSError, ValueError, KeyError):
        return False


def _search_path() -> Sequence[str]:
    home = str(Path(__file__).resolve().parent.parent)
    return [home, *filter(None, [os.environ.get("PYTHONPATH")])]
