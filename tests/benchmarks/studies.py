"""The benchmark of studies: a sweep of many small runs, and a search for the capacity of one instance."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from builds import python_command
from loads import run_measured

# The load of docs/guides/studies.md.
CHAT = """
model: llama-3.1-8b
workload:
  arrivals: {kind: poisson, rate_per_s: 20}
  prompt_tokens: {median: 600, sigma: 0.8}
  output_tokens: {median: 150, sigma: 0.7}
  requests: %d
pools: {hardware: h100-sxm}
"""
# From idle to full: 20 rates with 10 seeds each.
SWEEP = """
base: chat.yaml
axes:
  - {key: workload.arrivals.rate_per_s, log_range: {from: 1, to: 32, count: %d}}
seeds: 10
"""
SLO = "ttft_p90<=1s, tpot_p99<=100ms"


@dataclass(frozen=True)
class StudyMeasurement:
    """What a study took.

    Attributes:
        name: Of the study.
        runs: Simulations that it made, of as many requests each.
        wall_s: Real time of the whole command, its start included.
        cpu_s: User and system time of all its processes.
        lone_s: CPU seconds of one such simulation as a command of its own.
    """

    name: str
    runs: int
    wall_s: float
    cpu_s: float
    lone_s: float

    @property
    def share_of_lone(self) -> float:
        """CPU of a run in the study, relative to that of a run by itself."""
        return self.cpu_s / self.runs / self.lone_s


def measure_studies(
    package: Path, workers: int = 2, rates: int = 20, requests: int = 2000
) -> list[StudyMeasurement]:
    """Measure a sweep and a capacity search.

    Args:
        package: The folder whose `simserve` runs.
        workers: Processes of the sweep.
        rates: Rates of the sweep, with ten seeds each.
        requests: Of each run.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "chat.yaml").write_text(CHAT % requests)
        (folder / "sweep.yaml").write_text(SWEEP % rates)
        lone = ["run", str(folder / "chat.yaml"), "--out", str(folder / "run"), "--quiet"]
        lone_s = run_measured(python_command(lone), package)[0]
        sweep = ["sweep", str(folder / "sweep.yaml"), "--out", str(folder / "sweep")]
        cpu_s, wall_s, _ = run_measured(python_command([*sweep, "--workers", str(workers)]), package)
        found = [StudyMeasurement("sweep", 10 * rates, wall_s, cpu_s, lone_s)]
        out = folder / "capacity.json"
        search = ["capacity", str(folder / "chat.yaml"), "--slo", SLO, "--json"]
        cpu_s, wall_s, _ = run_measured(python_command(search), package, output=out)
        probes = len(json.loads(out.read_text())["searches"][0]["probes"])
        return [*found, StudyMeasurement("capacity", probes, wall_s, cpu_s, lone_s)]
