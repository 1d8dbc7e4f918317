"""The summary of a run small enough to be worked out by hand."""

from __future__ import annotations

from array import array
from collections.abc import Callable

import pytest

from simserve.metrics.columns import RequestColumns
from simserve.metrics.pools import PoolInfo, busy_seconds
from simserve.metrics.record import COMPLETED, FAILED, UNFINISHED, RequestLog, StepLog
from simserve.metrics.result import Result
from simserve.metrics.slo import SloTargets
from simserve.metrics.summary import Window, summarise

MakeRun = Callable[..., tuple[RequestLog, list[StepLog]]]
SECOND = 1_000_000_000


@pytest.fixture
def steps() -> StepLog:
    """Four steps of a second each from 1 s on, in two stretches."""
    log = StepLog(0, num_blocks=10, end_ns=array("q", [2 * SECOND, 3 * SECOND, 4 * SECOND, 5 * SECOND]))
    log.first_step.extend([0, 1])
    log.steps.extend([1, 3])
    log.start_ns.extend([SECOND, 2 * SECOND])
    log.prefill_tokens.extend([30, 0])
    log.decode_tokens.extend([0, 2])
    log.running.extend([2, 2])
    log.waiting.extend([0, 0])
    log.used_blocks.extend([4, 7])
    return log


@pytest.fixture
def requests() -> RequestLog:
    """One of four tokens, one of two, one that failed and one that never ended."""
    record = RequestLog()
    rows = [
        (0, "gold", 1 * SECOND, 20, 4, 5, 0, 0, 3, 5 * SECOND, COMPLETED, "length"),
        (1, "", 0, 10, 2, 0, 0, 0, 1, 3 * SECOND, COMPLETED, "stop"),
        (2, "", 2 * SECOND, 10, 0, 0, -1, -1, -1, 2 * SECOND, FAILED, "rejected: queue full"),
        (3, "", 4 * SECOND, 10, 0, 0, -1, -1, -1, -1, UNFINISHED, ""),
    ]
    names = (
        *("request_id", "slo_class", "arrival_ns", "prompt_tokens", "output_tokens", "cached_tokens"),
        *("first_step", "first_token_step", "finish_step", "end_ns", "status", "reason"),
    )
    for row in rows:
        for name, value in zip(names, row, strict=True):
            getattr(record, name).append(value)
        record.session.append("")
        record.tenant.append("")
        record.preemptions.append(0)
        record.instance.append(0 if row[6] >= 0 else -1)
    return record


def test_figures_by_hand(requests: RequestLog, steps: StepLog) -> None:
    figures = summarise(requests, RequestColumns.of(requests, [steps]))
    assert (figures["completed"], figures["failed"], figures["unfinished"]) == (2, 1, 1)
    assert figures["duration"] == 5.0
    assert (figures["total_input_tokens"], figures["total_output_tokens"]) == (30, 6)
    assert figures["request_throughput"] == pytest.approx(2 / 5)
    assert figures["output_throughput"] == pytest.approx(6 / 5)
    # TTFT: 1 s and 2 s; E2EL: 4 s and 3 s; TPOT: 1 s both; ITL: three gaps and one, 1 s each.
    assert figures["mean_ttft_ms"] == pytest.approx(1500)
    assert figures["p90_ttft_ms"] == pytest.approx(1900)
    assert figures["mean_e2el_ms"] == pytest.approx(3500)
    assert figures["std_e2el_ms"] == pytest.approx(500)
    assert figures["mean_tpot_ms"] == pytest.approx(1000)
    assert figures["p99_itl_ms"] == pytest.approx(1000)
    assert figures["prefix_cache_hit_rate"] == pytest.approx(5 / 30)
    assert figures["kv_cache_peak_usage"] == pytest.approx(0.7)
    assert figures["steps"] == 4
    assert figures["failures"] == {"rejected: queue full": 1}


def test_goodput_judges_failed_requests_and_classes(requests: RequestLog, steps: StepLog) -> None:
    columns = RequestColumns.of(requests, [steps])
    strict = summarise(requests, columns, slo=SloTargets(ttft_s=1.5))
    assert strict["slo_attainment"] == pytest.approx(1 / 3)
    assert strict["request_goodput"] == pytest.approx(1 / 5)
    gold = SloTargets(ttft_s=2.0, classes={"gold": SloTargets(e2el_s=3.9)})
    assert summarise(requests, columns, slo=gold)["slo_attainment"] == pytest.approx(1 / 3)
    at_limit = SloTargets(ttft_s=2.0, tpot_s=1.0, e2el_s=4.0)
    assert summarise(requests, columns, slo=at_limit)["slo_attainment"] == pytest.approx(2 / 3)


def test_without_targets_goodput_is_unknown(requests: RequestLog, steps: StepLog) -> None:
    figures = summarise(requests, RequestColumns.of(requests, [steps]), slo=SloTargets())
    assert figures["request_goodput"] is None
    assert figures["slo_attainment"] is None


def test_window_leaves_out_its_ends(requests: RequestLog, steps: StepLog) -> None:
    window = Window(warmup_s=0.5, cooldown_s=1.0)
    figures = summarise(requests, RequestColumns.of(requests, [steps]), window=window)
    assert figures["completed"] == 2, "counts are of the whole run"
    assert figures["mean_ttft_ms"] == pytest.approx(1000), "only the request sent at 1 s lies inside"
    assert figures["duration"] == pytest.approx(3.5)
    assert figures["request_throughput"] == pytest.approx(1 / 3.5), "only the one that ended at 3 s"


def test_energy_and_cost_are_known_only_if_all_pools_are(requests: RequestLog, steps: StepLog) -> None:
    columns = RequestColumns.of(requests, [steps])
    known = PoolInfo("a", (0,), idle_power_w=100, busy_power_w=500, price_usd_per_hour=3.6)
    figures = summarise(requests, columns, pools=[known])
    assert figures["energy_j"] == pytest.approx(4 * 500 + 1 * 100)
    assert figures["cost_usd"] == pytest.approx(5 * 3.6 / 3600)
    figures = summarise(requests, columns, pools=[known, PoolInfo("b", (1,))])
    assert figures["energy_j"] is None
    assert figures["cost_usd"] is None


def test_overlapping_stretches_are_busy_once() -> None:
    log = StepLog(0, 1, end_ns=array("q", [10 * SECOND, 12 * SECOND]))
    log.first_step.extend([0, 1])
    log.steps.extend([1, 1])
    log.start_ns.extend([0, 5 * SECOND])
    assert busy_seconds(log) == 12.0


def test_nothing_served_is_unknown_not_zero() -> None:
    result = Result(requests=RequestLog(), steps=[StepLog(0, num_blocks=5)])
    summary = result.summary
    assert summary["completed"] == summary["failed"] == summary["unfinished"] == 0
    assert summary["mean_ttft_ms"] is None
    assert summary["prefix_cache_hit_rate"] is None
    assert summary["request_throughput"] is None


@pytest.mark.parametrize("seed", range(5))
def test_every_request_is_counted(make_run: MakeRun, seed: int) -> None:
    record, logs = make_run(seed)
    summary = Result(requests=record, steps=logs, seed=seed).summary
    assert summary["completed"] + summary["failed"] + summary["unfinished"] == len(record.request_id)
    assert sum(summary["failures"].values()) == summary["failed"]
    assert summary["seed"] == seed
