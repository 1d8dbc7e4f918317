"""Jumps equal steps where tiers lie behind vLLM's KV pool: on random scenarios, over the engine's paths."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from random_scenarios import build_scenario, check

from simserve.scenario.loader import load_scenario
from simserve.simulation import simulate
from tests.properties.seeds import seed_groups

SCENARIOS = 120
GROUP = 6
# KV bytes of a token of llama-3.1-8b, in GiB.
TOKEN_GIB = 131_072 / 2**30


def build_tiered(seed: int) -> dict[str, Any]:
    """Return a scenario of short chats, whose histories outlive a small KV pool in one or two tiers."""
    scenario = build_scenario(seed)
    draw = random.Random(seed)
    engine = scenario["pools"][0]["engine"]
    chunk = engine["block_size"] * draw.choice([1, 2, 4])
    tiers: list[dict[str, Any]] = [
        {
            "name": "host",
            "capacity_gib": chunk * TOKEN_GIB * draw.choice([2, 50, 2000]),
            "write": draw.choice(["through", "through", "second_use"]),
            "read_gb_per_s": draw.choice([None, 0.05, 1, 50]),
        }
    ]
    if draw.random() < 0.5:
        tiers.append(
            {
                "name": "nvme",
                "capacity_gib": chunk * TOKEN_GIB * 5000,
                "read_gb_per_s": draw.choice([0.05, 2]),
                "latency_s": 1e-3,
                "write": draw.choice(["through", "back"]),
            }
        )
    engine["kv_cache"] = {
        "tiers": tiers,
        "chunk_tokens": chunk,
        "prefetch": draw.random() < 0.3,
        "fetch": draw.choice(["always", "always", "faster"]),
        "load": draw.choice([None, None, "blocking", "layerwise"]),
    }
    blocks = -(-engine["max_model_len"] // engine["block_size"])
    engine["num_gpu_blocks_override"] = blocks * draw.choice([1, 2]) + 2
    length = max(2, engine["max_model_len"] // 10)
    scenario["model"] = "llama-3.1-8b"
    scenario["workload"] |= {
        "requests": 60,
        "sessions": {"turns": 4, "think_time_s": draw.choice([0, 0.05, 0.5])},
        "prompt_tokens": {"kind": "uniform", "min": 1, "max": length},
        "output_tokens": {"kind": "uniform", "min": 1, "max": length},
    }
    return scenario


@pytest.mark.parametrize("first", seed_groups(SCENARIOS, GROUP, fast=6))
def test_jumping_equals_stepping_with_tiers(first: int) -> None:
    for seed in range(first, first + GROUP):
        check(build_tiered(seed))


def test_the_scenarios_load_from_their_tiers() -> None:
    read_bytes = 0
    for seed in range(0, SCENARIOS, 20):
        scenario = load_scenario(json.dumps(build_tiered(seed)))
        tiers = simulate(scenario).summary["kv_tiers"]
        read_bytes += sum(tier["read_bytes"] for tier in tiers.values())
    assert read_bytes > 0
