"""Orders against queueing theory: with one seat and constant step times a server is an M/G/1 queue.

A request takes as many steps as it has output tokens. Mean waits: Pollaczek-Khinchine for any order that does
not look at lengths, and Cobham ("Priority assignment in waiting line problems", 1954) for classes served one
before the other without preemption, which shortest-first is with a class for each length.
"""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from simserve.metrics.result import Result
from simserve.scenario.loader import load_scenario
from simserve.simulation import simulate

STEP_S = 0.1
LONGEST = 9
LOAD = 0.7
# Lengths 1 ... 9, all alike; 1 / rate is the mean time between arrivals.
MEAN_S = STEP_S * (LONGEST + 1) / 2
RATE = LOAD / MEAN_S
# Lambda E[S^2] / 2: the mean work in service that an arrival finds.
RESIDUAL_S = RATE * float(np.mean(np.arange(1, LONGEST + 1) ** 2)) * STEP_S**2 / 2
SEEDS = 4


@cache
def run(seed: int, order: str, *, tenants: str = "[]") -> Result:
    """Simulate; the order and the tenants as JSON, or the order's name."""
    scenario = {
        "seed": seed,
        "model": "llama-3.1-8b",
        "workload": {
            "arrivals": RATE,
            "prompt_tokens": 16,
            "output_tokens": {"kind": "uniform", "min": 1, "max": LONGEST},
            "requests": 3200,
            "tenants": json.loads(tenants),
        },
        "pools": {
            "hardware": "h100-sxm",
            "engine": {
                "kind": "sarathi", "order": json.loads(order) if order[0] == "{" else order,
                "max_num_seqs": 1, "max_model_len": 2048, "num_gpu_blocks_override": 1000,
            },
        },
        "cost": {"kind": "constant", "base_s": STEP_S},
    }  # fmt: skip
    return simulate(load_scenario(json.dumps(scenario)))


def waits_s(result: Result) -> NDArray[np.float64]:
    """Time in the queue of each request, in the order of the log."""
    log = result.requests
    spent_s: NDArray[np.float64] = (np.asarray(log.end_ns) - np.asarray(log.arrival_ns)) / 1e9
    return spent_s - STEP_S * np.asarray(log.output_tokens)


def check_mean(means: list[float], expected: float) -> None:
    """Compare with theory within four standard errors over the seeds."""
    error = float(np.std(means, ddof=1)) / len(means) ** 0.5
    assert abs(np.mean(means) - expected) < 4 * error + 0.001
    assert np.mean(means) == pytest.approx(expected, rel=0.15)


def cobham_s(shares: list[float], service_s: list[float]) -> list[float]:
    """Mean waits of classes, the first served first, with these shares of the requests and mean services."""
    waits, before = [], 0.0
    for share, service in zip(shares, service_s, strict=True):
        through = before + RATE * share * service
        waits.append(RESIDUAL_S / ((1 - before) * (1 - through)))
        before = through
    return waits


@pytest.mark.parametrize("order", ["fcfs", "lifo", "random"])
def test_orders_that_do_not_look_at_lengths_have_the_same_mean_wait(order: str) -> None:
    means = [float(waits_s(run(seed, order)).mean()) for seed in range(SEEDS)]
    check_mean(means, RESIDUAL_S / (1 - LOAD))


def test_shortest_first_is_a_class_for_each_length() -> None:
    lengths = range(1, LONGEST + 1)
    expected = cobham_s([1 / LONGEST] * LONGEST, [STEP_S * length for length in lengths])
    results = [run(seed, "sjf") for seed in range(SEEDS)]
    check_mean([float(waits_s(result).mean()) for result in results], float(np.mean(expected)))
    for length in (1, 5, LONGEST):
        means = []
        for result in results:
            chosen = np.asarray(result.requests.output_tokens) == length
            means.append(float(waits_s(result)[chosen].mean()))
        check_mean(means, expected[length - 1])


def test_a_ranking_lies_between_shortest_first_and_no_knowledge() -> None:
    def mean(order: str) -> float:
        return float(np.mean([waits_s(run(seed, order)).mean() for seed in range(SEEDS)]))

    ranked = json.dumps({"policy": "sjf", "predictor": {"kind": "ranked", "kendall_tau": 0.5}})
    assert 1.02 * mean("sjf") < mean(ranked) < 0.98 * mean("fcfs")


def test_priorities_are_two_classes() -> None:
    tenants = [{"name": "first", "weight": 1, "priority": 0}, {"name": "second", "weight": 2, "priority": 1}]
    expected = dict(zip(("first", "second"), cobham_s([1 / 3, 2 / 3], [MEAN_S, MEAN_S]), strict=True))
    results = [run(seed, "priority", tenants=json.dumps(tenants)) for seed in range(SEEDS)]
    for name, wait_s in expected.items():
        means = []
        for result in results:
            chosen = np.array([label == name for label in result.requests.tenant])
            means.append(float(waits_s(result)[chosen].mean()))
        check_mean(means, wait_s)
