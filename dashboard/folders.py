"""The folders that the dashboard was started with: the only ones whose files it opens."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from simserve import InputError

# Folders joined by os.pathsep; set by `simserve dashboard`.
VARIABLE = "SIMSERVE_DASHBOARD_DIRS"
RUNS = "simserve-runs"
# How far below a folder things are looked for, and how many are listed.
_DEPTH, _MOST = 4, 500
_TRACES = (".csv", ".jsonl", ".parquet", ".csv.gz", ".jsonl.gz")
_TABLES = ("requests", "steps", "step_times", "spans", "kv_memory", "results")
# What a scenario has at its left edge and a sweep, or a file of something else, has not.
_SCENARIO_KEY = re.compile(rb"""^[{ ]*["']?(workload|pools)["']?[ ]*:""", re.MULTILINE)
_LARGEST_SCENARIO_BYTES = 1 << 20


def roots() -> list[Path]:
    """Return the folders that may be read; runs are written below the first."""
    named = os.environ.get(VARIABLE, "")
    return [Path(part).resolve() for part in named.split(os.pathsep) if part] or [Path.cwd()]


def run_folder(identity: str, title: str) -> Path:
    """Return where the run of that identity is kept; a new one's folder begins with its title, for people."""
    home, short = roots()[0] / RUNS, identity[:12]
    known = sorted(home.glob(f"*-{short}"))
    words = re.sub(r"[^a-z0-9.]+", "-", title.lower()).strip("-.")[:80]
    return known[0] if known else home / f"{words or 'run'}-{short}"


def find_runs() -> dict[str, Path]:
    """Return the folders that hold runs by their labels, newest first, points of sweeps last."""
    found = [path.parent for path in _walk() if path.name == "summary.json"]
    own = _labelled(path for path in found if sweep_of(path) is None)
    return own | _labelled(path for path in found if sweep_of(path) is not None)


def find_sweeps() -> dict[str, Path]:
    """Return the folders that hold sweeps by their labels, the newest first."""
    return _labelled(path.parent for path in _walk() if path.name == "results.parquet")


def sweep_of(run: Path) -> Path | None:
    """Return the folder of the sweep that a run is a point of; None if it is of none."""
    sweep = run.parent.parent
    return sweep if run.parent.name == "points" and (sweep / "results.parquet").exists() else None


def find_scenarios() -> dict[str, Path]:
    """Return YAML files that may be scenarios by their labels; sweeps and those of runs are left out."""
    files = (path for path in _walk() if path.suffix in (".yaml", ".yml"))
    own = (path for path in files if not (path.parent / "summary.json").exists())
    return _labelled(path for path in own if _may_be_scenario(path))


def find_traces() -> dict[str, Path]:
    """Return files that may be traces by their labels."""
    files = (path for path in _walk() if path.name.endswith(_TRACES))
    return _labelled(path for path in files if path.name.partition(".")[0] not in _TABLES)


def label_of(path: Path) -> str:
    """Return how a path below the folders is called: its way from there, in further folders with their name.

    Raises:
        InputError: If it is not below them.
    """
    folders = roots()
    for number, root in enumerate(folders):
        if path.resolve().is_relative_to(root):
            way = path.resolve().relative_to(root)
            return (Path(root.name) / way if number else way).as_posix()
    raise InputError("is outside of the folders that the dashboard was started with", file=str(path))


def _may_be_scenario(path: Path) -> bool:
    try:
        # A pipe or a device has no end.
        if not path.is_file() or path.stat().st_size > _LARGEST_SCENARIO_BYTES:
            return False
        return _SCENARIO_KEY.search(path.read_bytes()) is not None
    except OSError:
        return False


def _labelled(paths: Iterable[Path]) -> dict[str, Path]:
    found = sorted((-changed, path) for path in paths if (changed := _changed_s(path)) is not None)
    labelled: dict[str, Path] = {}
    for _, path in found[:_MOST]:
        try:
            labelled.setdefault(label_of(path), path)
        except InputError:  # a link that leads out
            continue
    return labelled


def _changed_s(path: Path) -> float | None:
    """Return when a file or folder was changed; None of a link that leads nowhere, a pipe or a device."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime if S_ISREG(found.st_mode) or S_ISDIR(found.st_mode) else None


def _walk() -> Iterator[Path]:
    for root in roots():
        for folder, below, files in os.walk(root):
            deep = len(Path(folder).relative_to(root).parts)
            hidden = [name for name in below if name.startswith(".") or deep >= _DEPTH]
            below[:] = sorted(name for name in below if name not in hidden)
            yield from (Path(folder, name) for name in sorted(files))
