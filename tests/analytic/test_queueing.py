"""Queueing theory: with constant step times an instance is a textbook queue."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from simserve.metrics.result import Result
from simserve.scenario.loader import load_scenario
from simserve.simulation import simulate

STEP_S = 0.1


def run(seed: int, rate_per_s: float, requests: int, **workload: Any) -> Result:
    scenario = {
        "seed": seed,
        "model": "llama-3.1-8b",
        "workload": {
            "arrivals": rate_per_s,
            "prompt_tokens": 16,
            "output_tokens": 1,
            "requests": requests,
            **workload,
        },
        "pools": {
            "hardware": "h100-sxm",
            "engine": {
                "max_num_seqs": 1,
                "max_num_batched_tokens": 8192,
                "max_model_len": 2048,
                "num_gpu_blocks_override": 1000,
                "async_scheduling": False,
            },
        },
        "cost": {"kind": "constant", "base_s": STEP_S},
    }
    return simulate(load_scenario(json.dumps(scenario)))


def latencies_s(result: Result) -> np.ndarray[Any, np.dtype[np.float64]]:
    log = result.requests
    return (np.asarray(log.end_ns) - np.asarray(log.arrival_ns)) / 1e9


@pytest.mark.parametrize("load", [0.3, 0.5, 0.8])
def test_one_seat_and_one_step_a_request_is_m_d_1(load: float) -> None:
    # Pollaczek-Khinchine for deterministic service: mean wait = load * s / (2 * (1 - load)).
    means = [float(latencies_s(run(seed, load / STEP_S, 4000)).mean()) for seed in range(6)]
    expected = STEP_S + load * STEP_S / (2 * (1 - load))
    spread = np.std(means, ddof=1) / len(means) ** 0.5
    assert abs(np.mean(means) - expected) < 4 * spread + 0.001
    assert abs(np.mean(means) / expected - 1) < 0.1


def test_littles_law() -> None:
    # Mean number in the system = arrival rate x mean time in it, over a window that starts and ends empty.
    result = run(7, 6.0, 3000)
    log = result.requests
    arrival, end = np.asarray(log.arrival_ns) / 1e9, np.asarray(log.end_ns) / 1e9
    times = np.sort(np.concatenate((arrival, end)))
    change = np.concatenate((np.ones_like(arrival), -np.ones_like(end)))[
        np.argsort(np.concatenate((arrival, end)), kind="stable")
    ]
    in_system = np.cumsum(change)[:-1]
    span = times[-1] - times[0]
    mean_number = float(in_system @ np.diff(times)) / span
    assert mean_number == pytest.approx(len(arrival) / span * float((end - arrival).mean()), rel=1e-9)


def test_closed_loop_keeps_the_seat_busy() -> None:
    # With one client that sends the next request at once, throughput is one request a step.
    result = run(0, 1.0, 200, arrivals={"kind": "closed_loop", "concurrency": 1})
    assert result.summary["duration"] == pytest.approx(200 * STEP_S)
    assert latencies_s(result) == pytest.approx(np.full(200, STEP_S))


def test_first_come_first_served() -> None:
    log = run(3, 9.0, 500).requests
    ends = dict(zip(log.request_id, log.end_ns, strict=True))
    assert [ends[i] for i in range(500)] == sorted(ends.values())
