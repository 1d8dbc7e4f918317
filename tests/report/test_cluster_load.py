"""The load of instances in intervals: means add up to the run's, and greatest values are its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from simserve.metrics.pools import busy_seconds
from simserve.metrics.result import Result
from simserve.report.cluster_load import MEASURES, ClusterLoad, measure_load
from simserve.report.run_folder import RunFolder
from simserve.scenario.loader import load_scenario
from simserve.simulation import simulate


@pytest.fixture(scope="module")
def result() -> Result:
    scenario = {
        "model": "llama-3.1-8b",
        "workload": {"requests": 60, "arrivals": 12, "prompt_tokens": 300, "output_tokens": 30},
        "pools": [{"hardware": "h100-sxm", "replicas": 5, "engine": {"max_num_seqs": 2}}],
        # One instance gets nothing.
        "router": "session_affinity",
    }
    scenario["workload"]["sessions"] = {"turns": 30, "think_time_s": 0.2}  # type: ignore[index]
    return simulate(load_scenario(json.dumps(scenario)))


@pytest.fixture(scope="module")
def run(result: Result, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return RunFolder.read(result.write(tmp_path_factory.mktemp("load") / "out"))


@pytest.fixture(scope="module")
def load(run: RunFolder) -> ClusterLoad:
    return measure_load(run, 37)


def test_every_instance_has_a_row(run: RunFolder, load: ClusterLoad) -> None:
    assert load.instances == (0, 1, 2, 3, 4)
    assert set(load.values) == set(MEASURES)
    assert all(values.shape == (5, 37) for values in load.values.values())
    idle = [number for number in load.instances if number not in run.instances]
    assert idle, "the load leaves somebody idle"
    for values in load.values.values():
        assert not values[idle].any()


def test_means_add_up(result: Result, run: RunFolder, load: ClusterLoad) -> None:
    width = load.edges_s[1]
    busy = load.values["busy share"].sum(axis=1) * width
    assert busy == pytest.approx([busy_seconds(log) for log in result.steps], abs=1e-6)
    tokens = load.values["tokens/s"].sum() * width
    steps = run.steps
    assert tokens == pytest.approx(
        ((steps["prefill_tokens"] + steps["decode_tokens"]) * steps["steps"]).sum()
    )


def test_no_spike_is_lost(run: RunFolder, load: ClusterLoad) -> None:
    for instance in run.instances:
        rows = run.step_rows[instance]
        for name in ("running", "waiting"):
            assert load.values[name][instance].max() == run.steps[name][rows].max()
        usage = run.steps["kv_used_blocks"][rows] / run.pool_of(instance)["kv_blocks"]
        assert load.values["KV use"][instance].max() == pytest.approx(usage.max())


def test_a_value_stands_in_every_interval_it_lasts(run: RunFolder) -> None:
    fine = measure_load(run, 400)
    instance = run.instances[0]
    rows = run.step_rows[instance]
    longest = rows[np.argmax(run.steps["end_s"][rows] - run.steps["start_s"][rows])]
    begin, end = run.steps["start_s"][longest], run.steps["end_s"][longest]
    inside = (fine.edges_s[:-1] >= begin) & (fine.edges_s[1:] <= end)
    assert (fine.values["running"][instance][inside] >= run.steps["running"][longest]).all()
    assert fine.values["busy share"][instance][inside] == pytest.approx(1.0)


def test_a_run_without_steps(tmp_path: Path) -> None:
    refused = ["workload.trace.limit=3", "pools.0.engine.max_model_len=16"]
    folder = simulate(load_scenario("quickstart", refused)).write(tmp_path / "out")
    assert not measure_load(RunFolder.read(folder), 10).values["busy share"].any()
