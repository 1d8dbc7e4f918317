"""Every order on every engine kind that takes one: nobody is lost, jumping equals stepping, bit for bit."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from simserve.cluster.cluster import Cluster
from simserve.engine.instance import Instance
from simserve.metrics.result import Result
from simserve.registry import lookup, names
from simserve.scenario.loader import load_scenario
from simserve.scheduler.request_book import RequestBook
from simserve.simulation import simulate

KINDS = [
    name
    for name in names("engine")
    if issubclass(lookup("engine", name), RequestBook) and lookup("engine", name).takes_order
]
ORDERS: dict[str, dict[str, Any]] = {
    "slack": {"token_s": 0.01},
    "sjf": {"predictor": {"kind": "noisy", "sigma": 0.8}},
    "srpt": {"predictor": {"kind": "bucketed", "bucket_tokens": 8, "accuracy": 0.7}},
    "mlfq": {"quantum_tokens": 4, "promote_after_s": 0.5},
}
SEEDS = range(1)


def build_scenario(kind: str, order: str, seed: int) -> dict[str, Any]:
    draw = random.Random(f"{kind} {order} {seed}")
    block_size = draw.choice([1, 4, 16])
    return {
        "seed": seed,
        "model": "llama-3.1-8b",
        "workload": {
            "requests": 24,
            "arrivals": draw.choice([20, 200]),
            "prompt_tokens": {"kind": "uniform", "min": 1, "max": 60},
            "output_tokens": {"kind": "uniform", "min": 1, "max": draw.choice([6, 60])},
            "tenants": {"a": 2, "b": 1},
        },
        "pools": [
            {
                "hardware": "h100-sxm",
                "engine": {
                    "kind": kind,
                    "order": {"policy": order, **ORDERS.get(order, {})},
                    "max_num_seqs": draw.choice([2, 4, 8]),
                    "max_num_batched_tokens": draw.choice([16, 256]),
                    "max_model_len": 128,
                    "block_size": block_size,
                    "num_gpu_blocks_override": -(-128 // block_size) * draw.choice([1, 2, 4]) + 8,
                },
            }
        ],
        "slo": {"ttft_s": 0.3, "tpot_s": 0.02},
    }


def run(scenario: dict[str, Any], *, jump: bool) -> tuple[Result, list[Any]]:
    traces: list[Any] = []

    def watch(cluster: Cluster) -> None:
        for instance in cluster.instances:
            assert isinstance(instance, Instance)
            instance.trace = []
            traces.append(instance.trace)

    return simulate(load_scenario(json.dumps(scenario)), jump=jump, check=not jump, watch=watch), traces


@pytest.mark.parametrize("order", names("order"))
@pytest.mark.parametrize("kind", KINDS)
def test_jumping_equals_stepping_and_nobody_is_lost(kind: str, order: str) -> None:
    for seed in SEEDS:
        scenario = build_scenario(kind, order, seed)
        stepped, stepped_trace = run(scenario, jump=False)
        jumped, jumped_trace = run(scenario, jump=True)
        assert jumped_trace == stepped_trace
        for column in jumped.requests.__dataclass_fields__:
            assert getattr(jumped.requests, column) == getattr(stepped.requests, column), column
        assert jumped.summary == stepped.summary
        assert jumped.summary["completed"] == 24, jumped.summary["failures"]
