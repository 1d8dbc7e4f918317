"""Runs in a process of their own: started, looked at and stopped by the page."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from dashboard.folders import roots, run_folder
from simserve import identify, load_scenario

_PROGRESS, _ERROR = "progress.json", "error.txt"


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


@dataclass(slots=True)
class Job:
    """A run that is under way, or has ended.

    Attributes:
        folder: Where its result will be.
        notes: Where the process leaves word.
        process: It; None where the result was there already.
        started_s: When, on the clock of `time.monotonic`.
    """

    folder: Path
    notes: Path | None = None
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0

    @property
    def running(self) -> bool:
        """Whether the process is at work."""
        return self.process is not None and self.process.poll() is None

    @property
    def progress(self) -> tuple[float, int, int]:
        """Simulated seconds, requests that have ended, and all of them (0: not known yet)."""
        try:
            found = json.loads((self._notes() / _PROGRESS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return 0.0, 0, 0
        return found["now_s"], found["ended"], found["total"]

    @property
    def error(self) -> str:
        """Why it failed; "" if it has not."""
        if self.process is None or self.running or self.process.returncode == 0:
            return ""
        try:
            return (self._notes() / _ERROR).read_text(encoding="utf-8").strip()
        except OSError:
            return f"the process ended with status {self.process.returncode}"

    def stop(self) -> None:
        """Ask the run to end; what is complete becomes its result, marked as partial."""
        if self.running and self.process is not None:
            self.process.send_signal(signal.SIGINT)

    def _notes(self) -> Path:
        assert self.notes is not None
        return self.notes


def start_job(order: Order, *, fresh: bool = False) -> Job:
    """Start a run; one whose result is there already is not run again.

    Args:
        order: What to run.
        fresh: Run even so.

    Raises:
        ScenarioError: As `Order.folder`.
    """
    folder = order.folder()
    if not fresh and _is_whole(folder):
        return Job(folder)
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


def _is_whole(folder: Path) -> bool:
    try:
        return not json.loads((folder / "summary.json").read_text(encoding="utf-8"))["partial"]
    except (OSError, ValueError, KeyError):
        return False


def _search_path() -> Sequence[str]:
    home = str(Path(__file__).resolve().parent.parent)
    return [home, *filter(None, [os.environ.get("PYTHONPATH")])]
