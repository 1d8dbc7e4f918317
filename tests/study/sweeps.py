"""A sweep of six settings and two seeds, and its points."""

from __future__ import annotations

from pathlib import Path

from simserve.study.points import Point, expand_points
from simserve.study.sweep_file import read_sweep_file

BASE = """
model: llama-3.1-8b
workload: {arrivals: 20, prompt_tokens: 100, output_tokens: 10, requests: 30}
pools: h100-sxm
cost: {kind: constant, base_s: 0.01}
"""
SWEEP = """
base: base.yaml
axes:
  - {key: pools.0.replicas, range: {from: 1, to: 3}}
  - {keys: [workload.prompt_tokens, workload.output_tokens], values: [[100, 10], [50, 20]]}
seeds: 2
"""
ROUTER = "from simserve.cluster.routers import RoundRobin\n\n\nclass {name}(RoundRobin):\n    pass\n"


def points_of(folder: Path) -> list[Point]:
    """Return the points of the sweep in a folder."""
    return list(expand_points(read_sweep_file(folder / "sweep.yaml"), folder))
