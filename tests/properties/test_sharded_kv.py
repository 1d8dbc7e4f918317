"""Sharded KV caches on engine kinds: jumping equals stepping, and what equal and unequal counts come to."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from simserve.cluster.cluster import Cluster
from simserve.engine.instance import Instance
from simserve.errors import InputError
from simserve.metrics.result import Result
from simserve.scenario.loader import load_scenario
from simserve.simulation import simulate


def build_scenario(kind: str, placement: str | None, seed: int, **engine: Any) -> dict[str, Any]:
    draw = random.Random(seed)
    block_size = draw.choice([1, 4, 16])
    cache = {"kind": "sharded", "placement": placement} if placement else "paged"
    options = {
        "kind": kind, "tensor_parallel_size": 8, "decode_context_parallel_size": draw.choice([2, 4, 8]),
        "kv_cache": cache, "max_num_seqs": draw.choice([4, 32]), "max_num_batched_tokens": 256,
        "max_model_len": 256, "block_size": block_size, "enable_prefix_caching": False,
        "num_gpu_blocks_override": -(-256 // block_size) * draw.choice([1, 2]) + 8,
    }  # fmt: skip
    return {
        "seed": seed,
        "model": "deepseek-v3",
        "workload": {
            "requests": 40,
            "arrivals": 100,
            "prompt_tokens": {"kind": "uniform", "min": 1, "max": 120},
            "output_tokens": {"kind": "uniform", "min": 1, "max": 100},
        },
        "pools": [{"hardware": "h200", "engine": options | engine}],
    }


def run(scenario: dict[str, Any], *, jump: bool) -> tuple[Result, list[Any]]:
    traces: list[Any] = []

    def watch(cluster: Cluster) -> None:
        for instance in cluster.instances:
            assert isinstance(instance, Instance)
            instance.trace = []
            traces.append(instance.trace)

    return simulate(load_scenario(json.dumps(scenario)), jump=jump, check=not jump, watch=watch), traces


@pytest.mark.parametrize("placement", ["aligned", "rotate", "least_used"])
@pytest.mark.parametrize("kind", ["sarathi", "vllm-v0"])
def test_jumping_equals_stepping(kind: str, placement: str) -> None:
    for seed in range(2):
        scenario = build_scenario(kind, placement, seed)
        stepped, stepped_trace = run(scenario, jump=False)
        jumped, jumped_trace = run(scenario, jump=True)
        assert jumped_trace == stepped_trace
        assert jumped.summary == stepped.summary
        assert jumped.summary["completed"] == 40
        assert jumped.summary["kv_imbalance"]["fullest_over_mean"] >= 1


def test_unequal_counts_gain_only_where_sequences_begin_at_different_ranks() -> None:
    tight: dict[str, Any] = {
        "decode_context_parallel_size": 8, "block_size": 4, "num_gpu_blocks_override": 40, "max_num_seqs": 64
    }  # fmt: skip
    equal, aligned, spread = (
        run(build_scenario("sarathi", placement, 1, **tight), jump=True)[0].summary
        for placement in (None, "aligned", "rotate")
    )
    assert spread["mean_e2el_ms"] < 0.95 * aligned["mean_e2el_ms"] < equal["mean_e2el_ms"]
    assert spread["kv_imbalance"]["stranded"] < aligned["kv_imbalance"]["stranded"]


def test_nothing_to_shard_is_refused() -> None:
    scenario = build_scenario("sarathi", "rotate", 0, decode_context_parallel_size=1)
    with pytest.raises(InputError, match="give decode_context_parallel_size"):
        run(scenario, jump=True)
    with pytest.raises(InputError, match="tiers"):
        load_scenario(
            json.dumps(scenario),
            ["pools.0.engine.kv_cache={kind: sharded, tiers: [{name: host, capacity_gib: 10}]}"],
        )
