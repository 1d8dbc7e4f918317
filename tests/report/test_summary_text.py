"""The summary on the screen says what was asked, how it went and what to look at next."""

from __future__ import annotations

import sys

import pytest

from simserve.metrics.record import RequestLog, StepLog
from simserve.metrics.result import Result
from simserve.report.summary_text import AT_ONCE, print_summary


@pytest.fixture
def summary() -> dict[str, object]:
    figures = Result(requests=RequestLog(), steps=[StepLog(0, 5)], name="a chat load").summary
    return figures | {
        "completed": 1234,
        "failed": 2,
        "failures": {"rejected: queue full": 2},
        "mean_ttft_ms": 12.3456,
    }


def test_lines(summary: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    more = {"zero_lengths": 3, "warnings": ["no calibration"], "request_goodput": 1.5, "slo_attainment": 0.75}
    print_summary(summary | more)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a chat load"
    assert lines[1].startswith("requests       1,234 completed, 2 failed, 0 unfinished")
    assert "  failed       2: rejected: queue full" in lines
    assert "  lengths      3 lengths of 0 ran as 1" in lines
    assert "goodput        1.5 requests/s within the SLO (75.0% of the requests)" in lines
    assert next(line for line in lines if line.startswith("TTFT")).split()[1:3] == ["12.35", "-"]
    assert "warning        no calibration" in lines
    assert lines[-1] == "bottleneck     none: no step was executed"


POOL = {
    "name": "chat",
    "hardware": "l40s",
    "model": "llama-3.1-8b",
    "engine": "vllm 0.19",
    "instances": [0, 1, 2, 3],
    "accelerators": 16,
    "tensor_parallel_size": 2,
    "pipeline_parallel_size": 2,
    "data_parallel_size": 2,
    "max_num_seqs": 1024,
    "max_num_batched_tokens": 2048,
}


def test_the_second_line_says_what_served(
    summary: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    print_summary(summary | {"pools": [POOL]})
    served = "llama-3.1-8b on 16 x l40s, 2 instances of vllm 0.19, TP 2 PP 2 DP 2"
    line = capsys.readouterr().out.splitlines()[1]
    assert line == f"served by      {served}, max_num_seqs 1,024, max_num_batched_tokens 2,048"
    other = POOL | {"name": "b", "instances": [4, 5], "engine": "static", "max_num_batched_tokens": None}
    print_summary(summary | {"pools": [POOL, other]})
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith(f"served by      chat: {served}")
    assert lines[2].startswith("               b: llama-3.1-8b on 16 x l40s, 1 instance of static, TP 2")
    assert lines[2].endswith("max_num_seqs 1,024")


def test_times_between_tokens_that_came_at_once_are_no_figures(
    summary: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    at_once = {f"{figure}_tpot_ms": 0.0 for figure in ("mean", "median", "std", "p90", "p95", "p99")}
    print_summary(summary | at_once)
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if line.startswith("TPOT")).split()[1:] == ["-"] * 6
    assert AT_ONCE in lines
    print_summary(summary | at_once | {"mean_itl_ms": 0.0})
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if line.startswith("TPOT")).split()[1:] == ["0"] * 6
    assert AT_ONCE not in lines


def test_the_calibration_states_its_error(
    summary: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    known = {"tier": "calibrated", "source": "a fit", "error_percent": 8.46, "error_of": "GEMMs"}
    print_summary(summary | {"calibration": known})
    assert "step times     calibrated, off by 8.46 % for GEMMs; a fit" in capsys.readouterr().out
    print_summary(summary | {"calibration": known | {"error_percent": None}})
    assert "calibrated, no stated error" in capsys.readouterr().out


def test_a_stopped_run_is_marked(summary: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(summary | {"partial": True})
    assert "PARTIAL" in capsys.readouterr().out.splitlines()[0]


def test_a_terminal_gets_a_table(
    summary: dict[str, object], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_summary(summary)
    text = capsys.readouterr().out
    assert "TTFT" in text
    assert "─" in text


def test_memory_that_is_no_common_pool_and_tenants_have_lines(
    summary: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    regions = {"used": 0.2, "reserved_for_later": 0.1, "never_used": 0.6, "rounded_up": 0.05, "free": 0.05}
    latencies = {f"{key}_ms": 1.5 for key in ("mean_ttft", "p99_ttft", "mean_tpot", "mean_e2el", "p99_e2el")}
    tenant = {"completed": 1234, "output_throughput": 5.0, **latencies}
    more = {
        "kv_fragmentation": regions,
        "kv_imbalance": {"fullest_over_mean": 1.125, "stranded": 0.09},
        "tenants": {"": tenant, "chat": tenant},
        "fairness": {"jain_index": 0.617, "window_s": 6.24},
    }
    print_summary(summary | more)
    lines = capsys.readouterr().out.splitlines()
    assert (
        "  regions      20.0% of the memory held tokens, 10.0% was reserved for later ones and 60.0% for none"
        in (next(line for line in lines if line.startswith("  regions")))
    )
    assert next(line for line in lines if line.startswith("  shards")).split()[5:7] == ["1.125", "times"]
    assert [line.split()[:2] for line in lines if "1,234" in line][1:] == [
        ["(none)", "1,234"],
        ["chat", "1,234"],
    ]
    assert next(line for line in lines if line.startswith("fairness")).split()[1:4] == [
        "Jain's",
        "index",
        "0.617",
    ]
