"""The files of a real run agree with each other: summary, requests, steps and spans."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simserve import Result, load_scenario, simulate


def rows_of(table: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


@pytest.fixture(scope="module", params=["quickstart", "kv-pressure", "speculative", "pipeline-parallel"])
def result(request: pytest.FixtureRequest) -> Result:
    return simulate(load_scenario(f"scenarios/{request.param}.yaml"))


def test_summary_follows_from_the_requests(result: Result) -> None:
    done = [row for row in rows_of(result.requests_table()) if row["status"] == "completed"]
    summary = result.summary
    assert summary["completed"] == len(done) > 0
    for metric in ("ttft", "tpot", "e2el"):
        values = [row[f"{metric}_s"] * 1e3 for row in done if row[f"{metric}_s"] is not None]
        assert summary[f"mean_{metric}_ms"] == pytest.approx(np.mean(values))
        assert summary[f"p99_{metric}_ms"] == pytest.approx(np.percentile(values, 99))
    assert summary["total_output_tokens"] == sum(row["output_tokens"] for row in done)


def test_times_of_a_request_are_in_order(result: Result) -> None:
    for row in rows_of(result.requests_table()):
        if row["status"] == "completed":
            times = [row[f"{name}_s"] for name in ("arrival", "first_scheduled", "first_token", "finish")]
            assert times == sorted(times), row
            assert times[1] < times[2]


def test_the_gaps_add_up_to_the_time_between_first_and_last_token(result: Result) -> None:
    """The mean ITL times its count is what TPOT and E2EL say, too."""
    done = [row for row in rows_of(result.requests_table()) if row["status"] == "completed"]
    between_s = sum(row["e2el_s"] - row["ttft_s"] for row in done)
    chunks = between_s * 1e3 / result.summary["mean_itl_ms"]
    tokens = sum(row["output_tokens"] - 1 for row in done)
    assert chunks == pytest.approx(round(chunks), abs=1e-3)
    if result.name.startswith("spec"):
        assert chunks < tokens, "a verified step gives several tokens at once"
    else:
        assert round(chunks) == tokens


def test_spans_lie_inside_the_run_and_in_order(result: Result) -> None:
    steps = {log.instance: len(log.end_ns) for log in result.steps}
    instance = dict(zip(result.requests.request_id, result.requests.instance, strict=True))
    last: dict[int, int] = {}
    for span in rows_of(result.spans_table()):
        key = span["request_id"]
        assert 0 <= span["first_step"] <= span["last_step"] < steps[instance[key]], span
        assert span["first_step"] >= last.get(key, -1), span
        last[key] = span["last_step"]


def test_steps_compute_what_the_requests_need(result: Result) -> None:
    """To the token; what is recomputed after a preemption, or rejected by a verification, comes on top."""
    stretches = rows_of(result.steps_table())
    done = rows_of(result.requests_table())
    prefill = sum(row["steps"] * row["prefill_tokens"] for row in stretches)
    decode = sum(row["steps"] * row["decode_tokens"] for row in stretches)
    computed = prefill + decode
    needed = sum(row["prompt_tokens"] - row["cached_tokens"] + row["output_tokens"] - 1 for row in done)
    if result.summary["preemptions"] or result.name.startswith("spec"):
        assert needed < computed < 2 * needed
    else:
        assert prefill == sum(row["prompt_tokens"] - row["cached_tokens"] for row in done)
        assert computed == needed
