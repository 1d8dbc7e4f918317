"""Fragmentation of contiguous KV memory: from an engine to the summary, the table and the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from simserve.kvcache.fragmentation import FragmentationLog
from simserve.metrics.kv_memory import kv_memory_table, summarise_fragmentation
from simserve.metrics.record import StepLog
from simserve.metrics.result import Result
from simserve.scenario.loader import load_scenario
from simserve.simulation import simulate


def make_log(instance: int, fragmentation: FragmentationLog | None) -> StepLog:
    return StepLog(instance, num_blocks=10, fragmentation=fragmentation)


def test_shares_are_over_the_places_of_all_engines() -> None:
    small, large = FragmentationLog(100), FragmentationLog(300)
    small.add(2, used_sum=60, later_sum=40, unused=28, rounded=2, free=20, largest_hole=15)
    large.add(1, used_sum=100, later_sum=0, unused=0, rounded=0, free=200, largest_hole=200)
    small.refused, large.refused = 2, 3
    figures = summarise_fragmentation([make_log(0, small), make_log(1, None), make_log(2, large)])
    shares = figures["kv_fragmentation"]
    assert shares["used"] == 160 / 500
    assert shares["reserved_for_later"] == 40 / 500
    assert shares["never_used"] == 56 / 500
    assert shares["rounded_up"] == 4 / 500
    assert shares["free"] == 240 / 500
    assert shares["outside_largest_hole"] == 10 / 500
    assert shares["refused"] == 5
    assert summarise_fragmentation([make_log(0, None)]) == {}


def test_rows_are_by_engine() -> None:
    logs = []
    for number in (1, 0):
        log = FragmentationLog(100)
        log.append(3, 10, 20, 25, 5, 40, 35 + number)
        logs.append(make_log(number, log))
    rows = kv_memory_table(logs).to_pylist()
    assert [row["instance"] for row in rows] == [0, 1]
    assert rows[1] == {
        "instance": 1, "step": 3, "used_tokens": 10, "later_tokens": 20, "unused_tokens": 25,
        "rounded_tokens": 5, "free_tokens": 40, "largest_hole_tokens": 36,
    }  # fmt: skip


def run(reserve: str, kind: str = "orca") -> Result:
    scenario: dict[str, Any] = {
        "model": "llama-3.1-8b",
        "workload": {"requests": 40, "arrivals": 50, "prompt_tokens": 100, "output_tokens": 60},
        "pools": {
            "hardware": "h100-sxm",
            "engine": {"kind": kind, "max_model_len": 640, "num_gpu_blocks_override": 201},
        },
    }
    if kind == "orca":
        scenario["pools"]["engine"]["options"] = {"reserve": reserve}
    return simulate(load_scenario(json.dumps(scenario)), check=True)


def test_reserving_less_wastes_less() -> None:
    never_used = {
        reserve: run(reserve).summary["kv_fragmentation"]["never_used"] for reserve in ("max", "oracle")
    }
    # Five regions of 640 tokens fill the memory of 200 x 16; each request comes to 160 in the end.
    assert never_used["max"] == pytest.approx(0.75, abs=0.08)
    assert never_used["oracle"] < 0.01


def test_the_files_of_a_run(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    result = run("grow")
    result.write(tmp_path / "run")
    table = pq.read_table(tmp_path / "run" / "kv_memory.parquet")
    parts = ("used_tokens", "later_tokens", "unused_tokens", "rounded_tokens", "free_tokens")
    assert table.num_rows > 40
    assert all(sum(row[part] for part in parts) == 3200 for row in table.to_pylist())
    assert result.summary["kv_fragmentation"]["moves"] > 0
    # Another run into the same folder leaves nothing of it.
    run("", kind="vllm").write(tmp_path / "run")
    assert not (tmp_path / "run" / "kv_memory.parquet").exists()
