"""Shared prefixes of real runs: they are those of the workload, and account for every token found."""

from __future__ import annotations

import json

import pytest

from simserve.metrics.result import Result
from simserve.scenario.loader import load_scenario
from simserve.simulation import simulate

ENGINES = {
    "vllm": {},
    "sglang": {"kind": "sglang"},
    "sarathi on a tree": {"kind": "sarathi", "kv_cache": {"kind": "radix"}},
}


def run(engine: dict[str, object], *, caching: bool = True, requests: int = 80) -> Result:
    scenario = {
        "model": "llama-3.1-8b",
        "workload": {
            "requests": requests, "arrivals": 20, "prompt_tokens": 300, "output_tokens": 20,
            "prefixes": {"groups": 4, "tokens": 640},
        },
        "pools": [
            {
                "hardware": "h100-sxm", "replicas": 2,
                "engine": {"enable_prefix_caching": caching, **engine},
            }
        ],
    }  # fmt: skip
    return simulate(load_scenario(json.dumps(scenario)))


@pytest.mark.parametrize("name", ENGINES)
def test_the_groups_of_the_workload_are_found(name: str) -> None:
    result = run(ENGINES[name])
    table = result.prefix_table()
    assert table is not None
    rows = table.to_pylist()
    assert [row["prefix_tokens"] for row in rows] == [640] * 4
    assert len({row["stream"] for row in rows}) == 4
    found = result.requests_table()["cached_tokens"].to_pylist()
    assert sum(row["saved_tokens"] for row in rows) == sum(found) > 0
    assert sum(row["requests"] for row in rows) == sum(tokens > 0 for tokens in found)
    assert all(row["held_tokens"] == 640 * row["held_instances"] > 0 for row in rows)
    saved = [row["saved_tokens"] for row in rows]
    assert saved == sorted(saved, reverse=True)


def test_nothing_found_is_no_table() -> None:
    assert run({}, caching=False, requests=5).prefix_table() is None


def test_pools_say_what_fills_a_gpu() -> None:
    (pool,) = run({}, requests=5).summary["pools"]
    memory = dict(pool["memory"])
    block = memory.pop("block_bytes")
    assert memory.pop("total_bytes") == sum(memory.values())
    assert 0 <= memory["kv_bytes"] - (pool["kv_blocks"] + 1) * block < block
    assert pool["kv_block_tokens"] == 16
