"""The two forms of the package: plain Python, and the one that `make compile` builds; and that they agree."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Folders that hold the package `simserve`.
PLAIN = ROOT
COMPILED = ROOT / "build" / "compiled"
_TOOL = ROOT / "tools" / "compile.py"
# What a run writes; run.json is left out: it says what the run cost this machine.
_SUFFIXES = (".json", ".parquet", ".yaml")
_NOT_COMPARED = "run.json"


@dataclass(frozen=True)
class Check:
    """A scenario that both forms must answer with the same bytes.

    Attributes:
        name: Stem of its file in scenarios/.
        overrides: `--set` words.
        preempts: Whether it is there because it preempts.
    """

    name: str
    overrides: tuple[str, ...] = ()
    preempts: bool = False


CHECKS = (
    Check("quickstart"),
    Check("kv-pressure", preempts=True),
    # One instance of few blocks instead of four: sessions whose requests are preempted.
    Check(
        "multi-turn",
        ("pools.0.replicas=1", "pools.0.engine={num_gpu_blocks_override: 2000, max_model_len: 16384}"),
        preempts=True,
    ),
    Check("pipeline-parallel"),
    Check("sliding-window", ("workload.requests=40",)),
    Check("speculative"),
    Check("priority"),
)


def compiled_is_current() -> bool:
    """Say whether the compiled package is there and made from the sources as they are now."""
    return subprocess.run([sys.executable, str(_TOOL), "--check"], check=False).returncode == 0


def run_command(scenario: Path | str, overrides: list[str], out: Path) -> list[str]:
    """Return the command that runs a scenario quietly."""
    words = ["run", str(scenario), "--out", str(out), "--quiet"]
    return python_command(words + [word for override in overrides for word in ("--set", override)])


def python_command(words: list[str]) -> list[str]:
    """Return the command line of simserve with some words.

    `-P` keeps the working directory off the path, so that `PYTHONPATH` alone says which form runs.
    """
    return [sys.executable, "-P", "-c", "from simserve.cli.entry import main; main()", *words]


def environment_of(package: Path) -> dict[str, str]:
    """Return the environment in which the package of a folder runs."""
    return {**os.environ, "PYTHONPATH": str(package)}


def files_of(check: Check, package: Path) -> dict[str, bytes]:
    """Run a check with the package of a folder; return the content of the files that it writes, by name.

    Raises:
        subprocess.CalledProcessError: If the run fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = run_command(ROOT / "scenarios" / f"{check.name}.yaml", list(check.overrides), out)
        subprocess.run(command, cwd=ROOT, env=environment_of(package), check=True)
        written = sorted(path for path in out.iterdir() if path.suffix in _SUFFIXES)
        return {path.name: path.read_bytes() for path in written if path.name != _NOT_COMPARED}


def differing_files(plain: dict[str, bytes], compiled: dict[str, bytes]) -> list[str]:
    """Return the names of the files that one form alone wrote, or wrote otherwise."""
    return sorted(name for name in plain | compiled if plain.get(name) != compiled.get(name))
