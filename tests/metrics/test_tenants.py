"""Figures by tenant, and fairness over time, on runs that can be worked out by hand."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.metrics.columns import RequestColumns
from simserve.metrics.record import COMPLETED, FAILED, UNFINISHED, RequestLog, StepLog
from simserve.metrics.slo import SloTargets
from simserve.metrics.summary import summarise
from simserve.metrics.tenants import jain_index

MakeRun = Callable[..., tuple[RequestLog, list[StepLog]]]
SECOND = 1_000_000_000


def make_steps(count: int) -> StepLog:
    """Steps of a second each from 0 on."""
    log = StepLog(0, num_blocks=10, end_ns=array("q", [(1 + step) * SECOND for step in range(count)]))
    log.first_step.append(0)
    log.steps.append(count)
    log.start_ns.append(0)
    for name in ("prefill_tokens", "decode_tokens", "running", "waiting", "used_blocks", "cached_blocks"):
        getattr(log, name).append(1)
    return log


def make_requests(*rows: dict[str, Any]) -> RequestLog:
    """Requests that are sent at 0 and have a token in every step from the first to the last."""
    record = RequestLog()
    for number, given_fields in enumerate(rows):
        row: dict[str, Any] = {
            "request_id": number, "session": "", "tenant": "", "slo_class": "", "arrival_ns": 0,
            "prompt_tokens": 100, "cached_tokens": 0, "instance": 0, "first_step": 0, "first_token_step": 0,
            "finish_step": 0, "preemptions": 0, "status": COMPLETED, "reason": "length",
        } | given_fields  # fmt: skip
        row["output_tokens"] = row["finish_step"] - row["first_token_step"] + 1
        row.setdefault("end_ns", (row["finish_step"] + 1) * SECOND)
        for name, value in row.items():
            getattr(record, name).append(value)
    return record


def backlog(tenants: str) -> list[dict[str, Any]]:
    """A request of each tenant that waits from 0 on and is never served."""
    never = {"status": UNFINISHED, "end_ns": -1, "first_step": -1, "first_token_step": -1, "finish_step": -1}
    return [{"tenant": name, **never} for name in tenants]


def summary_of(record: RequestLog, log: StepLog, **options: Any) -> dict[str, Any]:
    return summarise(record, RequestColumns.of(record, [log]), **options)


def test_one_tenant_has_no_figures_of_its_own() -> None:
    figures = summary_of(make_requests({"tenant": "a"}, {"tenant": "a"}), make_steps(4))
    assert "tenants" not in figures
    assert "fairness" not in figures


def test_figures_by_tenant() -> None:
    record = make_requests(
        {"tenant": "b", "finish_step": 3},
        {"tenant": "a", "first_token_step": 1, "finish_step": 2, "preemptions": 2},
        {"tenant": "a", "first_token_step": 3, "finish_step": 3, "prompt_tokens": 7},
        {"tenant": "b", "status": FAILED, "end_ns": SECOND, "first_token_step": -1, "finish_step": -1},
        {"tenant": "b", "status": UNFINISHED, "end_ns": -1, "first_token_step": -1, "finish_step": -1},
    )
    figures = summary_of(record, make_steps(4), slo=SloTargets(ttft_s=2.0))
    tenants = figures["tenants"]
    assert list(tenants) == ["a", "b"]
    a, b = tenants["a"], tenants["b"]
    assert (a["completed"], a["failed"], a["unfinished"], a["preemptions"]) == (2, 0, 0, 2)
    assert (b["completed"], b["failed"], b["unfinished"]) == (1, 1, 1)
    assert (a["total_input_tokens"], a["total_output_tokens"], a["output_throughput"]) == (107, 3, 0.75)
    assert (a["mean_ttft_ms"], a["mean_e2el_ms"], a["mean_tpot_ms"]) == (3000, 3500, 1000)
    assert (b["median_ttft_ms"], b["p99_e2el_ms"]) == (1000, 4000)
    assert (a["slo_attainment"], b["slo_attainment"]) == (0.5, 0.5)
    assert summary_of(record, make_steps(4))["tenants"]["a"]["slo_attainment"] is None


def test_tenants_add_up_to_the_run(make_run: MakeRun) -> None:
    record, logs = make_run(4)
    record.tenant[:] = [("x", "y", "")[key % 3] for key in record.request_id]
    figures = summarise(record, RequestColumns.of(record, logs))
    assert set(figures["tenants"]) == {"", "x", "y"}
    for key in ("completed", "failed", "unfinished", "total_output_tokens", "preemptions"):
        assert sum(each[key] for each in figures["tenants"].values()) == figures[key]


def test_equal_service_is_fair() -> None:
    served = [{"tenant": name, "finish_step": 99} for name in "ab"]
    fairness = summary_of(make_requests(*served, *backlog("ab")), make_steps(100))["fairness"]
    assert fairness["window_s"] == 5.0
    assert fairness["jain_index"] == pytest.approx(1.0)
    assert fairness["max_service_gap"] == pytest.approx(0.0, abs=1e-6)


def test_a_tenant_that_waits_while_the_other_is_served_makes_it_unfair() -> None:
    # a has its prompt and tokens in seconds 1 to 50, b in 51 to 100.
    record = make_requests(
        {"tenant": "a", "finish_step": 49},
        {"tenant": "b", "first_token_step": 50, "first_step": 50, "finish_step": 99},
        *backlog("ab"),
    )
    fairness = summary_of(record, make_steps(100))["fairness"]
    # In every window one of them gets all: 1 / 2.
    assert fairness["jain_index"] == pytest.approx(0.5)
    # The window of a's first token: its prompt of 100, and four of five seconds of outputs at 2 x 50 / 49.
    assert fairness["max_service_gap"] == pytest.approx((100 + 4 * 2 * 50 / 49) / 5)


def test_only_windows_count_at_whose_ends_several_tenants_wait() -> None:
    served = [{"tenant": "a", "finish_step": 49}, {"tenant": "b", "first_token_step": 50, "finish_step": 99}]
    alone = summary_of(make_requests(*served, *backlog("a")), make_steps(100))["fairness"]
    assert (alone["jain_index"], alone["mean_service_gap"]) == (None, None)
    # b waits from second 40 on and is served in second 50: it waits at both ends of one window, in which a
    # gets two seconds of tokens, and at one end of two more.
    early = {"tenant": "a", "finish_step": 41}
    late = {
        "tenant": "b",
        "arrival_ns": 40 * SECOND,
        "first_step": 50,
        "first_token_step": 50,
        "finish_step": 99,
    }
    some = summary_of(make_requests(early, late, *backlog("a")), make_steps(100))["fairness"]
    assert some["jain_index"] == pytest.approx(0.5)
    assert some["mean_service_gap"] == some["max_service_gap"]
    assert some["max_service_gap"] == pytest.approx(2 * 2 * 42 / 41 / 5)


def test_a_run_without_any_time_has_no_windows() -> None:
    rows = [
        {"tenant": name, "status": FAILED, "end_ns": 0, "first_token_step": -1, "finish_step": -1}
        for name in "ab"
    ]
    fairness = summary_of(make_requests(*rows), make_steps(1))["fairness"]
    assert fairness["jain_index"] is None


def test_of_very_many_tenants_those_with_most_requests_are_shown() -> None:
    rows = [{"tenant": f"t{number}"} for number in range(150)] + [{"tenant": "t149"}, {"tenant": "t7"}]
    tenants = summary_of(make_requests(*rows), make_steps(1))["tenants"]
    assert len(tenants) == 100
    assert {"t149", "t7"} < set(tenants)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20))
def test_jains_index_lies_between_one_of_n_and_one(values: list[float]) -> None:
    index = jain_index(np.array(values))
    assert 1 / len(values) - 1e-9 <= index <= 1 + 1e-9
    assert jain_index(np.array(values) * 3.0) == pytest.approx(index)


def test_jains_index_of_known_shares() -> None:
    assert jain_index(np.array([1.0, 0.0, 0.0, 0.0])) == 0.25
    assert jain_index(np.array([2.0, 2.0])) == 1.0
    assert jain_index(np.array([0.0, 0.0])) == 1.0
    assert jain_index(np.array([3.0, 1.0])) == 0.8
