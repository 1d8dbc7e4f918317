"""Two runs side by side: first in what their scenarios differ, then figure by figure."""

from __future__ import annotations

from typing import Any

import pytest

from simserve.report.comparison import (
    RunSide,
    compare_settings,
    differing_settings,
    print_comparison,
    relative_differences,
)
from simserve.report.summary_text import AT_ONCE

SCENARIO = {
    "name": "x",
    "workload": {"requests": 5},
    "pools": [{"hardware": "h100", "engine": {"kind": "vllm"}}],
}


def side(name: str, scenario: dict[str, Any] | None = None, **figures: Any) -> RunSide:
    limits = {"max_num_seqs": 256, "max_num_batched_tokens": 8192}
    summary = {"failed": 0, "bottleneck": f"compute: {name}", "pools": [limits]}
    return RunSide(name, summary | figures, SCENARIO | (scenario or {}))


def test_differences_are_relative_to_the_first() -> None:
    first = {"mean_ttft_ms": 10.0, "completed": 4, "preemptions": 0, "name": "a", "partial": False, "seed": 1}
    second = {"mean_ttft_ms": 15.0, "completed": 4, "preemptions": 3, "name": "b", "partial": True, "seed": 2}
    assert relative_differences(first, second) == {
        "mean_ttft_ms": pytest.approx(0.5),
        "completed": 0.0,
        "preemptions": None,
    }


def test_settings_differ_by_dotted_key() -> None:
    found = differing_settings(
        [
            {"a": {"b": 1, "c": [1, 2]}, "d": [{"e": 1}], "f": True},
            {"a": {"b": 1, "c": [1, 3]}, "d": [{"e": 1}, {"e": 2}], "f": 1},
        ]
    )
    assert found == {"a.c": [[1, 2], [1, 3]], "d.1.e": [None, 2], "f": [True, 1]}


def test_limits_that_no_scenario_states_are_settings_too() -> None:
    pools = [{"max_num_seqs": 256, "max_num_batched_tokens": 2048}]
    other = side("b", {"name": "y", "pools": [{"hardware": "a100", "engine": {"kind": "vllm"}}]}, pools=pools)
    assert compare_settings(side("a"), other) == {
        "pools.0.hardware": ["h100", "a100"],
        "pools.0.engine.max_num_batched_tokens": [8192, 2048],
    }


def test_comparison_is_printed_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    pools = [{"hardware": "l40s", "engine": {"kind": "vllm"}}]
    first, second = side("a", mean_ttft_ms=10.0, cost_usd=None), side("b", {"pools": pools}, mean_ttft_ms=8.0)
    print_comparison(first, second)
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert lines[0].split() == ["differ", "in", "a", "b"]
    assert lines[1].split() == ["pools.0.hardware", "h100", "l40s"]
    assert lines[4].split() == ["failed", "0", "0", "="]
    assert lines[5].split() == ["mean_ttft_ms", "10", "8", "-20.0%"]
    assert lines[-1] == "b: compute: b"
    assert "warning" not in text
    print_comparison(first, side("b"))
    assert capsys.readouterr().out.startswith("the scenarios do not differ\n\n")


@pytest.mark.parametrize("other", [{"workload": {"requests": 6}}, {"seed": 3}])
def test_other_requests_are_warned_of(other: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    print_comparison(side("a"), side("b", other))
    assert capsys.readouterr().out.splitlines()[2].startswith("warning: the workloads differ")


def test_differences_of_ten_times_and_more_are_factors(capsys: pytest.CaptureFixture[str]) -> None:
    before = side("a", mean_ttft_ms=10.0, p99_ttft_ms=20.0, mean_itl_ms=5.0)
    print_comparison(before, side("b", mean_ttft_ms=52_950.0, p99_ttft_ms=199.0, mean_itl_ms=0.05))
    changes = {line.split()[0]: line.split()[-1] for line in capsys.readouterr().out.splitlines() if line}
    assert [changes[key] for key in ("mean_ttft_ms", "p99_ttft_ms", "mean_itl_ms")] == [
        "x5,295",
        "+895.0%",
        "-99.0%",
    ]


def test_tokens_that_came_at_once_are_no_gain(capsys: pytest.CaptureFixture[str]) -> None:
    static = side("static", mean_tpot_ms=0.0, mean_itl_ms=None)
    print_comparison(side("vllm", mean_tpot_ms=7.0, mean_itl_ms=7.0), static)
    lines = capsys.readouterr().out.splitlines()
    assert ["mean_tpot_ms", "7", "-", "-"] in [line.split() for line in lines]
    assert f"static: {AT_ONCE}" in lines
