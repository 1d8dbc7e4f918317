"""SGLang's engine with memory behind the GPU's: jumps equal steps, and no token is lost between the tiers."""

from __future__ import annotations

import random
from typing import Any

import pytest
from random_scenarios import check

from tests.properties.seeds import seed_groups
from tests.properties.test_sglang_horizon import build_scenario

SCENARIOS = 60
GROUP = 10
POLICIES = ["best_effort", "wait_complete", "timeout"]


def build(seed: int) -> dict[str, Any]:
    """Return a random scenario with tiers; its prompts are long enough for storage in a half of them."""
    scenario = build_scenario(seed)
    draw = random.Random(f"tiers {seed}")
    engine = scenario["pools"][0]["engine"]
    options = engine["options"] | {"disable_radix_cache": False}
    workload = scenario["workload"]
    workload["requests"] = 25
    is_long = draw.random() < 0.5
    if is_long:
        engine["max_model_len"] = 1200
        options["max_total_tokens"] = draw.choice([1500, 2400])
        workload["prompt_tokens"] = {"kind": "uniform", "min": 200, "max": 500}
        workload["output_tokens"] = {"kind": "uniform", "min": 1, "max": 60}
        workload["sessions"] = {"turns": 3, "think_time_s": draw.choice([0.01, 0.3])}
        workload.pop("max_tokens", None)
        workload.pop("prefixes", None)
        workload["arrivals"] = 20
    elif "sessions" not in workload:
        workload["prefixes"] = {"groups": 6, "tokens": 40}
    # One GiB holds 8,192 tokens of the 8B model.
    size = 0.4 if is_long else 0.05
    host = {"name": "host", "capacity_gib": size * draw.choice([0.3, 1, 4])}
    host["write"] = draw.choice(["through", "second_use", "back"])
    if draw.random() < 0.7:
        host |= {"read_gb_per_s": draw.choice([0.5, 20.0]), "write_gb_per_s": draw.choice([None, 0.3])}
    disk = {"name": "nvme", "capacity_gib": 10, "write": draw.choice(["through", "back"])}
    disk |= {"read_gb_per_s": draw.choice([0.2, 5.0]), "latency_s": 1e-4}
    engine["kv_cache"] = {
        "tiers": [host, disk][: 2 if is_long else draw.choice([1, 2])],
        "chunk_tokens": draw.choice([16, 64]),
    }
    engine["options"] = options | {"hicache_storage_prefetch_policy": draw.choice(POLICIES)}
    return scenario


@pytest.mark.parametrize("first", seed_groups(SCENARIOS, GROUP, fast=20))
def test_jumping_equals_stepping(first: int) -> None:
    stretched = 0
    read = {"host": 0, "nvme": 0}
    for seed in range(first, first + GROUP):
        result = check(build(seed))
        stretched += sum(steps for log in result.steps for steps in log.steps if steps > 1)
        for name, tier in result.summary["kv_tiers"].items():
            read[name] += tier["read_bytes"]
    assert stretched > 300, "hardly any stretch was passed: the comparison shows nothing"
    assert min(read.values()) > 0, f"a tier was never read: {read}"
