"""SGLang's engine: jumping over stretches gives what going pass by pass gives, bit for bit."""

from __future__ import annotations

import random
from typing import Any

import pytest
from random_scenarios import check, draw_client, draw_sessions

from tests.properties.seeds import seed_groups

SCENARIOS = 80
GROUP = 20
POLICIES = ("fcfs", "lpm", "dfs-weight", "lof", "hrrn", "shortest-prefill-first", "random", "routing-key")


def build_scenario(seed: int) -> dict[str, Any]:
    """A small random load; pools are tight enough to evict and retract now and then."""
    draw = random.Random(seed)
    page_size = draw.choice([1, 1, 4, 16])
    longest = draw.choice([64, 160])
    disabled = draw.random() < 0.2
    policy = draw.choice(("fcfs", *POLICIES))
    options: dict[str, Any] = {
        "page_size": page_size,
        "max_total_tokens": longest * draw.choice([2, 2, 3, 4, 20]),
        "max_running_requests": draw.choice([2, 8, 32]),
        "chunked_prefill_size": draw.choice([None, 32, 64, 256]),
        "enable_mixed_chunk": draw.random() < 0.2,
        "schedule_policy": "fcfs" if disabled and policy.startswith("shortest") else policy,
        "schedule_conservativeness": draw.choice([1.0, 0.2, 0.02]),
        "disable_radix_cache": disabled,
        "radix_eviction_policy": draw.choice(["lru", "lru", "lfu", "fifo", "priority", "slru"]),
        "disable_overlap_schedule": draw.random() < 0.5,
        "enable_priority_scheduling": draw.random() < 0.15,
        "prefill_decode_interval": draw.choice([0, 0, 0, 3]),
    }
    workload: dict[str, Any] = {
        "requests": draw.choice([20, 60]),
        "arrivals": draw.choice([20, 200, 2000]),
        "prompt_tokens": {"kind": "uniform", "min": 1, "max": draw.choice([8, longest // 2])},
        "output_tokens": {"kind": "uniform", "min": 1, "max": draw.choice([4, longest // 2, longest - 20])},
    }
    if draw.random() < 0.4:
        workload["max_tokens"] = longest // 2  # those that end before do so by EOS
    if draw.random() < 0.4:
        workload["prefixes"] = {"groups": 3, "tokens": longest // 4}
        workload["prompt_tokens"]["max"] = longest // 4
    draw_sessions(draw, workload, longest)
    draw_client(draw, workload)
    return {
        "seed": seed,
        "model": draw.choice(["llama-3.1-8b", "llama-3.1-8b", "gemma-2-9b"]),
        "workload": workload,
        "pools": [
            {
                "hardware": "h100-sxm",
                "replicas": draw.choice([1, 1, 2]),
                "engine": {
                    "kind": "sglang",
                    "max_model_len": longest,
                    "pipeline_parallel_size": draw.choice([1, 1, 1, 2]),
                    "options": options,
                },
            }
        ],
        "router": draw.choice(["round_robin", "least_outstanding", "prefix_aware"]),
    }


@pytest.mark.parametrize("first", seed_groups(SCENARIOS, GROUP, fast=20))
def test_jumping_equals_stepping(first: int) -> None:
    stretched = 0
    for seed in range(first, first + GROUP):
        result = check(build_scenario(seed))
        stretched += sum(steps for log in result.steps for steps in log.steps if steps > 1)
    assert stretched > 500, "hardly any stretch was passed: the comparison shows nothing"
