"""Data-parallel ranks: jumping over stretches gives what stepping through them gives, on random scenarios."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from random_scenarios import draw_client

from simserve.cluster.cluster import Cluster
from simserve.cluster.data_parallel import DataParallelInstance
from simserve.metrics.result import Result
from simserve.scenario.loader import load_scenario
from simserve.simulation import simulate
from tests.properties.seeds import seed_groups

BASE_KINDS = ("sarathi", "sarathi", "orca", "vllm-v0", "fastserve")
# Kinds that wait for the time, and the option that says how long.
WAITING_KINDS = {"static": "max_wait_s", "dynamic": "max_queue_delay_s"}
SCENARIOS = 80
GROUP = 10


def build_scenario(seed: int) -> dict[str, Any]:
    """A small random load on a small random instance of several ranks, with tight pools now and then."""
    draw = random.Random(seed)
    max_len = draw.choice([128, 256])
    max_num_seqs = draw.choice([2, 4, 32])
    size = draw.choice([2, 2, 3, 4])
    model = draw.choice(["mixtral-8x7b", "qwen3-30b-a3b", "llama-3.1-8b"])
    engine: dict[str, Any] = {
        "version": draw.choice(["0.15", "0.19", "0.23"]),
        "data_parallel_size": size,
        "tensor_parallel_size": draw.choice([1, 2]),
        "pipeline_parallel_size": draw.choice([1, 1, 1, 2]),
        "enable_expert_parallel": size != 3 and draw.random() < 0.5,
        "max_num_seqs": max_num_seqs,
        "max_num_batched_tokens": max(max_num_seqs, draw.choice([16, 64, 2048])),
        "max_model_len": max_len,
        "num_gpu_blocks_override": -(-max_len // 16) * draw.choice([1, 2, 8]) + 2,
        "enable_prefix_caching": draw.random() < 0.8,
        "async_scheduling": draw.choice([None, True, False]),
        "enforce_eager": draw.random() < 0.2,
    }
    engine["kind"] = draw.choice(["vllm"] * 6 + [*BASE_KINDS, "sglang", "sglang", *WAITING_KINDS])
    if engine["kind"] != "vllm":
        engine["async_scheduling"] = None
        wait_s = draw.choice([0.0, 0.03, 0.5])
        engine["options"] = {WAITING_KINDS[engine["kind"]]: wait_s} if engine["kind"] in WAITING_KINDS else {}
        if engine["kind"] == "sarathi" and draw.random() < 0.5:
            engine["kv_cache"] = {"kind": "radix", "eviction": "ttl", "options": {"ttl_s": 0.2}}
    elif draw.random() < 0.2:
        engine["speculative"] = {"method": "eagle", "num_speculative_tokens": 3, "acceptance": 0.6}
    workload: dict[str, Any] = {
        "requests": draw.choice([20, 50]),
        "arrivals": draw.choice([2, 20, 200]),
        "prompt_tokens": {"kind": "uniform", "min": 1, "max": max_len // 3},
        "output_tokens": {"kind": "uniform", "min": 1, "max": draw.choice([4, max_len // 3])},
    }
    if draw.random() < 0.3:
        workload["prefixes"] = {"groups": 3, "tokens": 40}
    draw_client(draw, workload)
    return {
        "seed": seed,
        "model": model,
        "workload": workload,
        "cost": draw.choice([{"kind": "analytic"}, {"kind": "linear", "base_s": 0.01, "per_decode_s": 1e-4}]),
        "pools": [
            {
                "hardware": draw.choice(["h100-sxm", "a100-sxm-80gb"]),
                "replicas": draw.choice([1, 1, 2]),
                "engine": engine,
                "queue": {"limit": draw.choice([None, None, 3]), "policy": draw.choice(["reject", "shed"])},
            }
        ],
        "router": draw.choice(["round_robin", "least_outstanding", "prefix_aware"]),
    }


def run(scenario: dict[str, Any], *, jump: bool) -> tuple[Result, list[list[tuple[int, ...]]]]:
    """Simulate, and return the result with every step of every rank."""
    traces: list[Any] = []

    def watch(cluster: Cluster) -> None:
        for instance in cluster.instances:
            assert isinstance(instance, DataParallelInstance)
            for rank in instance.ranks:
                rank.trace = []
                traces.append(rank.trace)

    return simulate(load_scenario(json.dumps(scenario)), jump=jump, check=not jump, watch=watch), traces


def compare(seed: int) -> None:
    scenario = build_scenario(seed)
    if scenario["pools"][0]["queue"]["limit"] is None:
        del scenario["pools"][0]["queue"]
    jumped, jumped_steps = run(scenario, jump=True)
    stepped, stepped_steps = run(scenario, jump=False)
    assert jumped_steps == stepped_steps
    for column in jumped.requests.__dataclass_fields__:
        assert getattr(jumped.requests, column) == getattr(stepped.requests, column), column
    assert jumped.steps == stepped.steps
    assert jumped.summary == stepped.summary
    for status in ("completed", "failed", "unfinished"):
        assert jumped.summary[status] == jumped.requests.status.count(status)
    assert len(jumped.requests.request_id) == scenario["workload"]["requests"]
    assert jumped.summary["unfinished"] == 0


@pytest.mark.parametrize("first", seed_groups(SCENARIOS, GROUP, fast=20))
def test_jumping_equals_stepping(first: int) -> None:
    for seed in range(first, first + GROUP):
        compare(seed)


def test_every_output_token_has_a_step_of_its_rank() -> None:
    """What the ranks' logs say was run is what the requests say they took."""
    scenario = build_scenario(7)
    scenario["pools"][0]["engine"].pop("speculative", None)
    result, traces = run(scenario, jump=True)
    log = result.requests
    for number, trace in enumerate(traces):
        decoded = sum(decodes for _, _, decodes, *_ in trace)
        taken = sum(
            tokens - 1
            for tokens, engine, status, preempted in zip(
                log.output_tokens, log.instance, log.status, log.preemptions, strict=True
            )
            if engine == number and status == "completed" and not preempted
        )
        assert decoded >= taken
