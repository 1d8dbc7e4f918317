"""The same for every other engine kind, with its options."""

from __future__ import annotations

import random
from typing import Any

import pytest
from random_scenarios import build_scenario, check

from simserve.registry import lookup

# Seeds of random scenarios: the first in the default suite, the rest in `make test-slow`.
GROUPS = [range(5), *(pytest.param(range(n, n + 11), marks=pytest.mark.slow) for n in range(5, 60, 11))]
OPTIONS: dict[str, dict[str, list[Any]]] = {
    "sarathi": {},
    "vllm-v0": {
        "mix_prompts": [False, False, True],
        "preemption_mode": ["recompute", "swap", "swap"],
        "swap_space": [0.02, 0.2, 4],
    },
    "orca": {"reserve": ["max", "max_tokens", "pow2", "oracle", "grow"], "allocator": ["first_fit", "buddy"]},
    "static": {
        "context_phase": ["longest", "shortest"],
        "run_to": ["longest", "max_tokens"],
        "max_wait_s": [0, 0.05, 1],
    },
    "dynamic": {"preferred_batch_size": [None, 2, [1, 2]], "max_queue_delay_s": [0, 0.02]},
    "tensorrt-llm": {
        "capacity_scheduler_policy": ["GUARANTEED_NO_EVICT", "MAX_UTILIZATION"],
        "context_chunking_policy": ["FIRST_COME_FIRST_SERVED", "EQUAL_PROGRESS"],
    },
    "lightllm": {
        "length_estimate": ["history", "ema", "max_tokens"],
        "router_max_wait_tokens": [1, 6, 11],
        "router_max_new_token_len": [4, 64],
    },
    "fastserve": {
        "base_quantum_s": [0.005, 0.03],
        "starvation_threshold_s": [0.05, 3],
        "starvation_period_steps": [10, 1000],
        "proactive_offloading": [True, False],
        "swap_space": [0.02, 4],
    },
}


def build(kind: str, seed: int) -> dict[str, Any]:
    """Return a random scenario whose engines are of a kind."""
    scenario = build_scenario(seed)
    draw = random.Random(seed)
    engine = scenario["pools"][0]["engine"]
    engine |= {"kind": kind, "speculative": None, "async_scheduling": None}
    options = {name: draw.choice(values) for name, values in OPTIONS[kind].items()}
    if options:
        engine["options"] = options
    engine["max_num_batched_tokens"] = max(engine["max_num_batched_tokens"], engine["block_size"])
    if lookup("engine", kind).takes_order and draw.random() < 0.3:
        engine["order"] = draw.choice(["sjf", "lifo", "vtc", "random"])
    if kind == "static":
        scenario["workload"]["max_tokens"] = engine["max_model_len"] // 3
    if draw.random() < 0.3:
        scenario["model"] = "gpt-oss-20b"  # half of its layers read the last 128 tokens
    return scenario


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("seeds", GROUPS)
def test_jumping_equals_stepping(kind: str, seeds: range) -> None:
    stretched = 0
    for seed in seeds:
        result = check(build(kind, seed))
        stretched += sum(steps for log in result.steps for steps in log.steps if steps > 1)
    assert stretched > 500, "hardly any stretch was passed: the comparison shows nothing"
