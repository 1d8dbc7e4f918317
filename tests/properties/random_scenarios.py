"""Small random loads on small random clusters, with pools tight enough to preempt now and then."""

from __future__ import annotations

import json
import random
from typing import Any

from simserve.metrics.result import Result
from simserve.scenario.loader import load_scenario
from simserve.testing.jumps import check_jumps


def build_scenario(seed: int) -> dict[str, Any]:
    """Return the scenario of a seed."""
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
    draw_sessions(draw, workload, max_len)
    draw_client(draw, workload)
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


def draw_sessions(draw: random.Random, workload: dict[str, Any], max_len: int) -> None:
    """Make the requests turns of sessions, now and then."""
    if draw.random() < 0.3:
        workload["sessions"] = {"turns": 3, "think_time_s": draw.choice([0, 0.05])}
        workload["prompt_tokens"]["max"] = max_len // 8
        workload["output_tokens"]["max"] = max(2, max_len // 8)


def draw_client(draw: random.Random, workload: dict[str, Any]) -> None:
    """Let the client give up, or hold requests back, now and then."""
    client: dict[str, Any] = {}
    if draw.random() < 0.25:
        client["timeout_s"] = draw.choice([0.02, 0.05, 0.5])
    if draw.random() < 0.25:
        client["max_concurrency"] = draw.choice([1, 5])
    if client:
        workload["client"] = client


def check(scenario: dict[str, Any]) -> Result:
    """Check that jumps change nothing, and that every request has ended."""
    result = check_jumps(load_scenario(json.dumps(scenario)))
    summary = result.summary
    total = summary["completed"] + summary["failed"] + summary["unfinished"]
    assert total == len(result.requests.request_id)
    assert summary["unfinished"] == 0
    return result
