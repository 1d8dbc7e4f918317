"""Prefixes that expire do so at the same moment whether stretches are passed at once or step by step."""

from __future__ import annotations

import json
from typing import Any

import pytest

from simserve.scenario.loader import load_scenario
from simserve.testing.jumps import check_jumps


def build_scenario(kind: str, ttl_s: float, seed: int) -> dict[str, Any]:
    engine: dict[str, Any] = {
        "kind": kind, "max_num_seqs": 8, "num_gpu_blocks_override": 200, "block_size": 16,
        "max_model_len": 1024,
    }  # fmt: skip
    if kind == "sglang":
        engine["options"] = {"radix_eviction_policy": "ttl"}  # its age is the policy's own, 300 s
    else:
        engine["kv_cache"] = {"kind": "radix", "eviction": "ttl", "options": {"ttl_s": ttl_s}}
    return {
        "seed": seed,
        "model": "llama-3.1-8b",
        "workload": {
            "requests": 40,
            "arrivals": 20,
            "prompt_tokens": {"kind": "uniform", "min": 1, "max": 200},
            "output_tokens": {"kind": "uniform", "min": 1, "max": 100},
            "prefixes": {"groups": 3, "tokens": 80},
            "sessions": {"turns": 3, "think_time_s": 299.9 if kind == "sglang" else 0.05},
            "client": {"timeout_s": 0.9},
        },
        "pools": [{"hardware": "h100-sxm", "engine": engine}],
    }


@pytest.mark.parametrize("kind", ["sarathi", "vllm-v0", "lightllm", "sglang"])
@pytest.mark.parametrize("seed", range(3))
def test_expiry_is_the_same_with_jumps(kind: str, seed: int) -> None:
    result = check_jumps(load_scenario(json.dumps(build_scenario(kind, (0.02, 0.1, 0.5)[seed], seed))))
    assert max(result.steps[0].cached_blocks) > 0
    assert result.summary["prefix_cache_hit_rate"] > 0
