"""The cluster around the engines: the client's limits, queue limits, sessions, refusals."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest

from simserve.errors import CapacityError
from simserve.metrics.result import Result
from simserve.scenario.loader import load_scenario
from simserve.simulation import simulate


def run(workload: dict[str, Any], engine: dict[str, Any] | None = None, **pool: Any) -> Result:
    scenario = {
        "model": "llama-3.1-8b",
        "workload": {"prompt_tokens": 100, "output_tokens": 20, **workload},
        "pools": {
            "hardware": "h100-sxm",
            "engine": {"max_num_seqs": 4, "max_num_batched_tokens": 2048, **(engine or {})},
            **pool,
        },
    }
    return simulate(load_scenario(json.dumps(scenario)), check=True)


def failures(result: Result) -> dict[str, int]:
    reasons: dict[str, int] = {}
    for status, reason in zip(result.requests.status, result.requests.reason, strict=True):
        if status == "failed":
            reasons[reason] = reasons.get(reason, 0) + 1
    return reasons


def test_every_request_is_accounted_for() -> None:
    result = run({"requests": 60, "arrivals": 50})
    assert sorted(result.requests.request_id) == list(range(60))
    assert set(result.requests.status) == {"completed"}
    assert set(result.requests.reason) == {"length"}
    assert set(result.requests.output_tokens) == {20}


def test_full_queue_rejects_the_newcomer() -> None:
    result = run({"requests": 40, "arrivals": 1000}, queue={"limit": 3, "policy": "reject"})
    rejected = failures(result)["rejected: queue full"]
    assert rejected + result.summary["completed"] == 40
    # Four run, three wait; who came first stays.
    first = {
        i for i, s in zip(result.requests.request_id, result.requests.status, strict=True) if s == "completed"
    }
    assert {0, 1, 2, 3} <= first
    assert rejected > 20


def test_full_queue_sheds_the_oldest_for_the_newcomer() -> None:
    result = run({"requests": 40, "arrivals": 1000}, queue={"limit": 3, "policy": "shed"})
    shed = failures(result)["shed: queue full"]
    assert shed + failures(result).get("rejected: queue full", 0) + result.summary["completed"] == 40
    last = {
        i for i, s in zip(result.requests.request_id, result.requests.status, strict=True) if s == "completed"
    }
    assert 39 in last


def test_client_cap_holds_requests_back_and_counts_from_the_send() -> None:
    result = run({"requests": 30, "arrivals": 1000, "client": {"max_concurrency": 2}})
    log = result.requests
    arrival, end = np.asarray(log.arrival_ns), np.asarray(log.end_ns)
    for moment in arrival:
        assert np.count_nonzero((arrival <= moment) & (end > moment)) <= 2
    assert arrival.max() > 10**9 // 20  # the last ones were sent long after they were due


def test_timeouts_fail_requests_and_free_the_place() -> None:
    result = run({"requests": 60, "arrivals": 1000, "client": {"timeout_s": 0.2, "max_concurrency": 10}})
    log = result.requests
    assert failures(result)["timeout"] + result.summary["completed"] == 60
    for status, sent, end in zip(log.status, log.arrival_ns, log.end_ns, strict=True):
        assert end - sent == 200_000_000 if status == "failed" else end - sent <= 200_000_000


def test_a_turn_waits_for_the_one_before_it() -> None:
    sessions = {"turns": 4, "think_time_s": 0.5, "think_time_cv": 0}
    result = run({"requests": 40, "arrivals": 5, "sessions": sessions})
    log = result.requests
    rows = sorted(zip(log.session, log.arrival_ns, log.end_ns, strict=True))
    turns = 0
    for (session, _, end), (following, arrival, _) in itertools.pairwise(rows):
        if session == following:
            assert arrival == end + 500_000_000
            turns += 1
    assert turns == 30
    assert result.summary["prefix_cache_hit_rate"] > 0.4


def test_a_failed_turn_ends_its_session() -> None:
    workload = {"requests": 40, "arrivals": 200, "sessions": {"turns": 4}, "client": {"timeout_s": 0.15}}
    result = run(workload)
    reasons = failures(result)
    assert reasons["timeout"] > 0
    assert reasons["an earlier turn failed"] > 0
    assert sum(reasons.values()) + result.summary["completed"] == 40


def test_a_prompt_without_room_for_output_is_refused() -> None:
    result = run({"requests": 3, "arrivals": 10, "prompt_tokens": 256}, {"max_model_len": 256})
    assert result.summary["failed"] == 3
    assert "refused: a prompt of 256 tokens" in next(iter(failures(result)))


def test_output_ends_at_max_model_len() -> None:
    result = run(
        {"requests": 3, "arrivals": 10, "prompt_tokens": 250, "output_tokens": 50}, {"max_model_len": 256}
    )
    assert set(result.requests.output_tokens) == {6}


def test_a_pool_too_small_for_one_request_is_refused_at_the_start() -> None:
    with pytest.raises(CapacityError, match="max_model_len 4,096 does not fit"):
        run({"requests": 1, "arrivals": 1}, {"max_model_len": 4096, "num_gpu_blocks_override": 50})


def test_max_model_len_follows_the_pool_and_says_so() -> None:
    result = run({"requests": 1, "arrivals": 1}, {"num_gpu_blocks_override": 50})
    assert any("max_model_len reduced" in warning for warning in result.warnings)


def test_same_seed_same_record() -> None:
    first, second = (run({"requests": 50, "arrivals": 20}) for _ in range(2))
    assert first.requests == second.requests
    assert first.steps == second.steps
    assert first.summary_json() == second.summary_json()
