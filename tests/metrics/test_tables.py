"""The tables hold what the record says, in the documented columns."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from simserve.metrics.record import COMPLETED, RequestLog, StepLog
from simserve.metrics.result import Result

MakeRun = Callable[..., tuple[RequestLog, list[StepLog]]]
REQUESTS = (
    "request_id session tenant arrival_s prompt_tokens output_tokens cached_tokens instance rank "
    "first_scheduled_s first_token_s finish_s ttft_s tpot_s e2el_s preemptions status reason slo_class"
)
STEPS = (
    "instance start_s end_s steps prefill_tokens decode_tokens running waiting kv_used_blocks "
    "kv_cached_blocks"
)


@pytest.fixture
def result(make_run: MakeRun) -> Result:
    record, logs = make_run(7)
    return Result(requests=record, steps=logs)


def rows_of(table: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def test_columns_are_the_documented_ones(result: Result) -> None:
    assert result.requests_table().column_names == REQUESTS.split()
    assert result.steps_table().column_names == STEPS.split()
    assert result.step_times_table().column_names == ["instance", "step", "end_s"]
    assert result.spans_table().column_names == ["request_id", "kind", "first_step", "last_step", "tokens"]


def test_requests_table_equals_the_record(result: Result) -> None:
    record = result.requests
    for row, values in enumerate(rows_of(result.requests_table())):
        ends = result.steps[record.instance[row]].end_ns
        first_token = ends[record.first_token_step[row]] / 1e9
        assert values["request_id"] == record.request_id[row]
        assert values["status"] == record.status[row]
        assert values["first_token_s"] == pytest.approx(first_token)
        assert values["ttft_s"] == pytest.approx(first_token - record.arrival_ns[row] / 1e9)
        assert (values["finish_s"] is None) == (record.end_ns[row] < 0)
        assert (values["e2el_s"] is None) == (record.status[row] != COMPLETED)
        tokens = record.output_tokens[row]
        assert (values["tpot_s"] is None) == (record.status[row] != COMPLETED or tokens < 2)


def test_steps_and_their_times_cover_every_step(result: Result) -> None:
    stretches = rows_of(result.steps_table())
    times = rows_of(result.step_times_table())
    for log in result.steps:
        mine = [row for row in stretches if row["instance"] == log.instance]
        assert sum(row["steps"] for row in mine) == len(log.end_ns)
        ends = [row["end_s"] for row in times if row["instance"] == log.instance]
        assert ends == pytest.approx([end / 1e9 for end in log.end_ns])
        assert [row["end_s"] for row in mine][-1] == ends[-1]


def test_spans_follow_each_request_through_its_steps(result: Result) -> None:
    record = result.requests
    spans: dict[int, list[dict[str, Any]]] = {}
    for span in rows_of(result.spans_table()):
        spans.setdefault(span["request_id"], []).append(span)
    for row, key in enumerate(record.request_id):
        kinds = [span["kind"] for span in spans[key]]
        assert kinds in (kinds_of(queued, record.output_tokens[row]) for queued in (True, False))
        prefill = next(span for span in spans[key] if span["kind"] == "prefill")
        assert (prefill["first_step"], prefill["last_step"]) == (
            record.first_step[row],
            record.first_token_step[row],
        )
        assert prefill["tokens"] == record.prompt_tokens[row] - record.cached_tokens[row]
        if kinds[0] == "queued":
            ends = result.steps[record.instance[row]].end_ns
            assert spans[key][0]["last_step"] == record.first_step[row] - 1
            assert ends[spans[key][0]["first_step"]] > record.arrival_ns[row]


def kinds_of(queued: bool, tokens: int) -> list[str]:
    return ["queued"] * queued + ["prefill"] + ["decode"] * (tokens > 1)


def test_recorded_spans_are_kept_in_order(make_run: MakeRun) -> None:
    record, logs = make_run(1)
    history = [("prefill", 0, 1, 40), ("preempted", 2, 4, 0), ("prefill", 5, 5, 41), ("decode", 6, 9, 4)]
    record.spans[5] = history
    spans = rows_of(Result(requests=record, steps=logs).spans_table())
    mine = [
        tuple(span.values())[1:] for span in spans if span["request_id"] == 5 and span["kind"] != "queued"
    ]
    assert mine == history
    ids = [span["request_id"] for span in spans]
    assert ids == sorted(ids), "requests stay in the order of the log"


def test_an_empty_run_has_empty_tables() -> None:
    result = Result(requests=RequestLog(), steps=[StepLog(0, 5)])
    tables = (result.requests_table(), result.steps_table(), result.step_times_table(), result.spans_table())
    assert [table.num_rows for table in tables] == [0, 0, 0, 0]


def test_to_pandas(result: Result) -> None:
    frame = result.to_pandas()
    assert len(frame) == len(result.requests.request_id)
    assert set(frame["status"]) == set(result.requests.status)


def test_writing_does_not_import_pandas(tmp_path: object) -> None:
    code = (
        "import sys\n"
        "from simserve.metrics.record import RequestLog, StepLog\n"
        "from simserve.metrics.result import Result\n"
        f"Result(requests=RequestLog(), steps=[StepLog(0, 5)]).write({str(tmp_path)!r} + '/out')\n"
        "sys.exit('pandas' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
