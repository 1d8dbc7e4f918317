"""Every KV cache under the kinds that take any: jumps equal steps on random scenarios."""

from __future__ import annotations

import random
from typing import Any

import pytest
from random_scenarios import build_scenario, check

from simserve.registry import lookup
from simserve.scheduler.tensorrt_llm import CAPACITY_POLICIES
from tests.properties.seeds import seed_groups

SCENARIOS = 60
GROUP = 10
KINDS = ["sarathi", "vllm-v0", "vllm-v0", "static", "dynamic", "tensorrt-llm", "lightllm"]
LOADS = ["blocking", "layerwise", "async", "async"]
POLICIES = ["lru", "lfu", "mru", "slru", "tlru", "ttl", "cost", "s3-fifo"]


def build(seed: int, *, tiers: bool) -> dict[str, Any]:
    """Return a random scenario whose engines have a radix tree, or tiers behind either cache."""
    scenario = build_scenario(seed)
    draw = random.Random(seed)
    engine = scenario["pools"][0]["engine"]
    engine |= {"kind": draw.choice(KINDS), "speculative": None, "async_scheduling": None}
    engine["enable_prefix_caching"] = draw.random() < 0.9
    if engine["kind"] == "vllm-v0":
        engine["options"] = {"preemption_mode": draw.choice(["recompute", "swap"]), "swap_space": 0.2}
    if engine["kind"] == "tensorrt-llm":
        engine["options"] = {"capacity_scheduler_policy": draw.choice(CAPACITY_POLICIES)}
        engine["max_num_batched_tokens"] = max(engine["max_num_batched_tokens"], engine["block_size"])
    cache: dict[str, Any] = {"kind": draw.choice(["paged", "radix"]) if tiers else "radix"}
    if cache["kind"] == "radix":
        cache["eviction"] = draw.choice(POLICIES)
        if cache["eviction"] == "ttl":
            cache["options"] = {"ttl_s": 0.3}
    if tiers:
        modes = ["through", "second_use", "through" if cache["kind"] == "paged" else "back"]
        host = {"name": "host", "capacity_gib": draw.choice([0.01, 0.1]), "write": draw.choice(modes)}
        disk = {"name": "nvme", "capacity_gib": 1, "write": draw.choice(["through", "back"])}
        disk |= {"read_gb_per_s": draw.choice([1.0, 50.0]), "latency_s": 1e-4}
        disk["write_gb_per_s"] = draw.choice([None, 0.1])
        cache |= {"tiers": [host, disk][: draw.choice([1, 2])], "chunk_tokens": draw.choice([8, 32])}
        cache["prefetch"] = draw.random() < 0.5
        cache["fetch"] = draw.choice(["always", "faster"])
        cache["load"] = draw.choice(
            [load for load in LOADS if load in lookup("engine", engine["kind"]).loads]
        )
        engine["cpu_offload_gb"] = draw.choice([0, 0, 0.5])
    engine["kv_cache"] = cache
    workload = scenario["workload"]
    if "sessions" not in workload:
        workload["prefixes"] = {"groups": 3, "tokens": 60}
    return scenario


@pytest.mark.parametrize("first", seed_groups(SCENARIOS, GROUP, fast=10))
def test_radix_jumping_equals_stepping(first: int) -> None:
    hits = stretched = 0.0
    for seed in range(first, first + GROUP):
        result = check(build(seed, tiers=False))
        hits += result.summary["prefix_cache_hit_rate"] or 0
        stretched += sum(steps for log in result.steps for steps in log.steps if steps > 1)
    assert hits > 1
    assert stretched > 500, "hardly any stretch was passed: the comparison shows nothing"


@pytest.mark.parametrize("first", seed_groups(SCENARIOS, GROUP, fast=10))
def test_tiers_jumping_equals_stepping(first: int) -> None:
    read = 0
    stretched = 0
    for seed in range(first, first + GROUP):
        result = check(build(seed, tiers=True))
        tiers = result.summary["kv_tiers"]
        assert all(0 <= tier["hit_rate"] <= 1 for tier in tiers.values())
        read += sum(tier["read_bytes"] for tier in tiers.values())
        stretched += sum(steps for log in result.steps for steps in log.steps if steps > 1)
    assert read > 0
    assert stretched > 500, "hardly any stretch was passed: the comparison shows nothing"


@pytest.mark.parametrize("first", seed_groups(30, 5, fast=5))
def test_weights_in_host_memory_jumping_equals_stepping(first: int) -> None:
    stretched = 0
    for seed in range(first, first + 5):
        scenario = build_scenario(seed)
        draw = random.Random(seed)
        engine = scenario["pools"][0]["engine"]
        engine["cpu_offload_gb"] = draw.choice([0.2, 2])
        if draw.random() < 0.5:
            engine |= {"kind": "vllm-v0", "speculative": None, "async_scheduling": None}
            engine["options"] = {"preemption_mode": "swap", "swap_space": 0.2}
        result = check(scenario)
        stretched += sum(steps for log in result.steps for steps in log.steps if steps > 1)
    assert stretched > 100, "hardly any stretch was passed: the comparison shows nothing"
