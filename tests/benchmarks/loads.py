"""The loads of the benchmark, and how one is run and measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from builds import PLAIN, ROOT, environment_of, run_command

_AZURE_TRACE = Path("traces") / "AzureLLMInferenceTrace_conv.csv.gz"
_FEW = 10


@dataclass(frozen=True)
class Load:
    """One load.

    Attributes:
        name: Stem of its file in scenarios/benchmarks.
        marginal: Whether a run of ten requests is subtracted, because start-up would weigh too much.
        limit_key: The key that makes it ten requests.
        slow: Whether it only runs when asked for.
        trace: A file under the data folder that it needs.
        kind: The engine kind that serves it, in place of the scenario's.
    """

    name: str
    marginal: bool = False
    limit_key: str = "workload.requests"
    slow: bool = False
    trace: Path | None = None
    kind: str = ""

    @property
    def scenario(self) -> Path:
        """Its file; loads of other engine kinds share one."""
        return ROOT / "scenarios" / "benchmarks" / f"{self.name.partition('/')[0]}.yaml"

    @property
    def options(self) -> list[str]:
        """Overrides that every run of it needs."""
        return [f"pools.0.engine.kind={self.kind}"] if self.kind else []


# What every engine kind serves to be compared.
KINDS_LOAD = "64x100k"


def kind_loads() -> list[Load]:
    """Return a load for each registered engine kind but vLLM's, which the others already are."""
    from simserve.registry import names

    return [Load(f"{KINDS_LOAD}/{kind}", kind=kind) for kind in names("engine") if kind != "vllm"]


LOADS = (
    Load("2x50k"),
    Load("16x10k", marginal=True),
    Load("64x100k"),
    Load("64x1m", slow=True),
    Load("azure-conv", marginal=True, limit_key="workload.trace.limit", trace=_AZURE_TRACE),
    Load("16x20k-mixed", marginal=True),
)


@dataclass(frozen=True)
class Measurement:
    """What one process cost, and what it did.

    Attributes:
        requests: Requests of the run.
        cpu_s: User and system time of the whole process.
        wall_s: Real time.
        peak_rss_mib: Largest resident set.
        share_in_stretches: Share of the steps in stretches longer than one.
    """

    requests: int
    cpu_s: float
    wall_s: float
    peak_rss_mib: float
    share_in_stretches: float


def data_folder() -> Path:
    """Return the folder of measured data, which may be absent."""
    return Path(os.environ.get("SIMSERVE_DATA", ROOT.parent / "shared" / "data"))


def trace_overrides(load: Load) -> list[str] | None:
    """Return the overrides that point a load at its trace; None if the trace is not here."""
    if load.trace is None:
        return load.options
    found = sorted(data_folder().rglob(load.trace.name))
    return [*load.options, f"workload.trace.path={found[0]}"] if found else None


def measure_load(scenario: Path | str, overrides: list[str], package: Path = PLAIN) -> Measurement:
    """Run a scenario in a process of its own, output included.

    Args:
        scenario: Its file.
        overrides: What `--set` changes.
        package: The folder whose `simserve` runs: plain Python or compiled.

    Raises:
        SystemExit: If the run fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        cpu_s, wall_s, peak_rss_mib = run_measured(run_command(scenario, overrides, out), package)
        summary = json.loads((out / "summary.json").read_text())
        share = _share_in_stretches(out / "steps.parquet")
    requests = summary["completed"] + summary["failed"] + summary["unfinished"]
    return Measurement(requests, cpu_s, wall_s, peak_rss_mib, share)


def measure_few(load: Load, scenario: Path, overrides: list[str], package: Path = PLAIN) -> Measurement:
    """Run the first ten requests of a load: what it costs to start, and hardly more."""
    return measure_load(scenario, [*overrides, f"{load.limit_key}={_FEW}"], package)


def run_measured(command: list[str], package: Path, output: Path | None = None) -> tuple[float, float, float]:
    """Return CPU seconds (of its children too), real seconds and peak MiB of a command.

    Args:
        command: To be run in the root of the project.
        package: The folder whose `simserve` runs.
        output: Where its standard output goes; None: to nobody.

    Raises:
        SystemExit: If it fails.
    """
    import time

    started = time.perf_counter()
    with open(output or os.devnull, "wb") as file:
        process = subprocess.Popen(command, cwd=ROOT, env=environment_of(package), stdout=file)
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed with status {process.returncode}: {' '.join(command)}")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return usage.ru_utime + usage.ru_stime, wall_s, usage.ru_maxrss / unit


def _share_in_stretches(path: Path) -> float:
    import pyarrow.parquet as pq

    steps = pq.read_table(path, columns=["steps"])["steps"].to_numpy()
    return float(steps[steps > 1].sum() / max(steps.sum(), 1))
