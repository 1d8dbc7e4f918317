"""Jumping over stretches gives what stepping through them gives: bit for bit, on random scenarios."""

from __future__ import annotations

import random
from typing import Any

import pytest

from simserve.cluster.cluster import Cluster
from simserve.metrics.result import Result
from simserve.scenario.loader import load_scenario
from simserve.simulation import simulate

SCENARIOS = 300
GROUP = 20


def build_scenario(seed: int) -> dict[str, Any]:
    """A small random load on a small random cluster, with the pool tight enough to preempt now and then."""
    draw = random.Random(seed)
    block_size = draw.choice([1, 4, 16, 16, 32])
    max_len = draw.choice([128, 256, 512])
    spec = draw.choice([None] * 6 + ["ngram", "eagle", "draft_model"])
    stages = draw.choice([1, 1, 1, 1, 2, 3, 4])
    max_num_seqs = draw.choice([2, 4, 8, 32])
    engine: dict[str, Any] = {
        "version": draw.choice(["0.15", "0.19", "0.23"]),
        "tensor_parallel_size": draw.choice([1, 1, 2]),
        "pipeline_parallel_size": stages,
        "max_num_seqs": max_num_seqs,
        "max_num_batched_tokens": max(max_num_seqs, draw.choice([16, 64, 256, 2048])),
        "max_model_len": max_len,
        "block_size": block_size,
        "num_gpu_blocks_override": -(-max_len // block_size) * draw.choice([1, 2, 3, 8]) + 2,
        "enable_prefix_caching": draw.random() < 0.8,
        "scheduling_policy": draw.choice(["fcfs", "fcfs", "fcfs", "priority"]),
        "long_prefill_token_threshold": draw.choice([0, 0, 0, 40]),
        "async_scheduling": draw.choice([None, True, False]),
        "enforce_eager": False,
    }
    if draw.random() < 0.15:
        engine["enable_chunked_prefill"] = False
        engine["max_num_batched_tokens"] = max_len
    if spec:
        engine["speculative"] = {"method": spec, "num_speculative_tokens": 3, "acceptance": 0.6}
        if spec == "draft_model":
            engine["speculative"]["model"] = "llama-3.2-1b"
        if spec != "eagle":
            engine["async_scheduling"] = None
    model = draw.choice(["llama-3.1-8b", "llama-3.1-8b", "llama-3.1-8b", "gemma-2-9b"])
    if model == "gemma-2-9b":
        engine["num_gpu_blocks_override"] *= 2  # two groups of layers share the pool
    workload: dict[str, Any] = {
        "requests": draw.choice([20, 60]),
        "arrivals": draw.choice([2, 20, 100]),
        "prompt_tokens": {"kind": "uniform", "min": 1, "max": max_len // 3},
        "output_tokens": {"kind": "uniform", "min": 1, "max": draw.choice([4, max_len // 3])},
    }
    if draw.random() < 0.3:
        workload["prefixes"] = {"groups": 3, "tokens": 40}
    if draw.random() < 0.3:
        workload["sessions"] = {"turns": 3, "think_time_s": draw.choice([0, 0.05])}
        workload["prompt_tokens"]["max"] = max_len // 8
        workload["output_tokens"]["max"] = max(2, max_len // 8)
    client: dict[str, Any] = {}
    if draw.random() < 0.2:
        client["timeout_s"] = draw.choice([0.05, 0.5])
    if draw.random() < 0.2:
        client["max_concurrency"] = draw.choice([1, 5])
    if client:
        workload["client"] = client
    return {
        "seed": seed,
        "model": model,
        "workload": workload,
        "pools": [
            {
                "hardware": draw.choice(["h100-sxm", "l40s", "a100-sxm-80gb"]),
                "replicas": draw.choice([1, 1, 2, 3]),
                "engine": engine,
                "queue": {"limit": draw.choice([None, None, None, 3]), "policy": "reject"},
            }
        ],
        "router": draw.choice(["round_robin", "least_outstanding", "random", "prefix_aware"]),
    }


def run(scenario: dict[str, Any], *, jump: bool) -> tuple[Result, list[list[tuple[int, ...]]]]:
    """Simulate, and return the result with every step of every instance."""
    import json

    traces: list[list[tuple[int, ...]]] = []

    def watch(cluster: Cluster) -> None:
        for instance in cluster.instances:
            instance.trace = []
            traces.append(instance.trace)

    return simulate(load_scenario(json.dumps(scenario)), jump=jump, check=not jump, watch=watch), traces


def compare(seed: int) -> None:
    scenario = build_scenario(seed)
    jumped, jumped_steps = run(scenario, jump=True)
    stepped, stepped_steps = run(scenario, jump=False)
    assert jumped_steps == stepped_steps
    for column in jumped.requests.__dataclass_fields__:
        assert getattr(jumped.requests, column) == getattr(stepped.requests, column), column
    assert jumped.steps == stepped.steps
    assert jumped.summary == stepped.summary
    total = jumped.summary["completed"] + jumped.summary["failed"] + jumped.summary["unfinished"]
    assert total == len(jumped.requests.request_id)
    assert jumped.summary["unfinished"] == 0


@pytest.mark.parametrize("first", range(0, SCENARIOS, GROUP))
def test_jumping_equals_stepping(first: int) -> None:
    for seed in range(first, first + GROUP):
        compare(seed)
