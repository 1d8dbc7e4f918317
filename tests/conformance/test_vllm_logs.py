"""Replaying golden logs: the real ones agree, changed ones are caught at the right level."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simserve.conformance.report import ConformanceReport
from simserve.conformance.vllm import replay_paths
from simserve.errors import InputError, UnknownNameError
from simserve.scheduler.vllm.stepwise import StepwiseScheduler

Write = Callable[..., Path]


@pytest.mark.parametrize(
    ("tight", "jump"),
    [
        pytest.param(True, True, id="tight bound-bulk"),
        pytest.param(False, False, id="trivial bound-stepwise"),
        # Either changes no decision, as tests/properties show; so the corners are enough.
        pytest.param(True, False, id="tight bound-stepwise", marks=pytest.mark.slow),
        pytest.param(False, True, id="trivial bound-bulk", marks=pytest.mark.slow),
    ],
)
def test_every_real_log_agrees_block_for_block(data_dir: Path, tight: bool, jump: bool) -> None:
    folder = data_dir / "golden" / "vllm"
    report = replay_paths([folder], tight=tight, scheduler_options={"jump": jump})
    assert report.failures == []
    assert len(report.outcomes) >= 81
    assert set(report.passed.values()) == {len(report.outcomes)}
    assert report.agreed_decisions["L3"] == report.decisions > 10_000
    assert report.ok


def test_logs_of_other_schedulers_are_skipped_with_a_note(data_dir: Path, write_log: Write) -> None:
    paths = [data_dir / "golden" / "sglang", data_dir / "golden" / "vllm" / "01_decode_batch.json"]
    report = replay_paths(paths)
    assert len(report.outcomes) == 1
    assert report.notes
    assert all("skipped" in note for note in report.notes)


@pytest.mark.parametrize("tight", [False, True])
def test_the_hand_made_log_agrees(document: dict[str, Any], write_log: Write, tight: bool) -> None:
    report = replay_paths([write_log(document)], tight=tight)
    assert report.to_json() == {"scenarios": 1, "passed": {"L1": 1, "L2": 1, "L3": 1}, "failures": []}


def test_a_log_may_leave_out_the_flush_of_finished_ids(document: dict[str, Any], write_log: Write) -> None:
    del document["steps"][2]
    assert replay_paths([write_log(document)]).ok


def _set(*keys: Any) -> Callable[[dict[str, Any]], None]:
    *owners, last, value = keys

    def apply(document: dict[str, Any]) -> None:
        owner: Any = document
        for key in owners:
            owner = owner[key]
        owner[last] = value

    return apply


@pytest.mark.parametrize(
    ("change", "level", "detail"),
    [
        (_set("steps", 1, "s", 1, 1, 3), "L1", "iteration 1: s: expected [[0, 1, 5], [1, 3, 4]], got"),
        (_set("steps", 1, "new", []), "L1", "iteration 1: new: expected [], got [1]"),
        (_set("steps", 1, "res", [1]), "L1", "iteration 1: res: expected [1], got []"),
        (_set("steps", 1, "pre", [0]), "L1", "iteration 1: pre: expected [0], got []"),
        (_set("steps", 1, "nr", 1), "L1", "iteration 1: nr: expected 1, got 2"),
        (_set("steps", 1, "wait", [1]), "L1", "iteration 1: wait: expected [1], got []"),
        (_set("steps", 0, "spec", {"0": 1}), "L1", "iteration 0: spec: expected {'0': 1}, got {}"),
        (_set("steps", 1, "u", "of", 0), "L1", "iteration 1, update: of: expected 0, got 1"),
        (_set("steps", 1, "u", "out", {"1": 2}), "L1", "iteration 1, update: out: expected {'1': 2}, got {}"),
        (_set("steps", 1, "u", "fin", [1, 0]), "L1", "iteration 1, update: fin: expected [1, 0], got [0, 1]"),
        (_set("results", 1, "finish", 2), "L1", "results, request 1: finish: expected 2, got 1"),
        (_set("results", 1, "reason", "stop"), "L1", "results, request 1: reason: expected stop, got length"),
        (_set("steps", 0, "free", 2), "L2", "iteration 0: free: expected 2, got 3"),
        (_set("steps", 1, "nc", 2), "L2", "iteration 1: nc: expected 2, got 1"),
        (_set("steps", 1, "u", "free", 4), "L2", "iteration 1, update: free: expected 4, got 5"),
        (_set("results", 1, "cached_tokens", 0), "L2", "request 1: cached_tokens: expected 0, got 4"),
        (_set("steps", 1, "blk", {"1": [1, 4]}), "L3", "blk: expected {'1': [1, 4]}, got {'1': [1, 3]}"),
        (_set("steps", 1, "evict", [3]), "L3", "iteration 1: evict: expected [3], got []"),
        (_set("steps", 0, "cpb", 1), "L3", "iteration 0: cpb: expected 1, got 2"),
        (_set("final_free_queue", 3, 1), "L3", "final_free_queue: position 3: expected 1, got 3"),
        (_set("final_free_queue", [4]), "L3", "final_free_queue: length: expected 1, got 5"),
    ],
)
def test_a_difference_is_found_at_its_level(
    document: dict[str, Any],
    write_log: Write,
    change: Callable[[dict[str, Any]], None],
    level: str,
    detail: str,
) -> None:
    change(document)
    report = replay_paths([write_log(document)])
    (failure,) = report.failures
    assert failure["level"] == level
    assert detail in failure["detail"]
    below = {name: int(name < level) for name in ("L1", "L2", "L3")}
    assert report.passed == below
    assert not report.ok
    assert report.agreed_decisions[level] == report.decisions - 1


@pytest.mark.parametrize("index", [0, 1])
def test_a_missing_record_is_a_difference(document: dict[str, Any], write_log: Write, index: int) -> None:
    del document["steps"][index]
    (failure,) = replay_paths([write_log(document)]).failures
    assert failure["level"] == "L1"
    assert f"iteration {index}: record: expected an idle iteration, got schedule" in failure["detail"]


def test_the_earliest_difference_is_shown_beside_the_gravest(
    document: dict[str, Any], write_log: Write
) -> None:
    _set("steps", 0, "blk", {"0": [1, 3]})(document)
    _set("steps", 1, "nw", 1)(document)
    (failure,) = replay_paths([write_log(document)]).failures
    assert failure["level"] == "L1"
    assert "nw: expected 1, got 0 (earliest difference, L3: iteration 0: blk" in failure["detail"]


class Broken(StepwiseScheduler):
    """An engine that fails in its first step."""

    def __init__(self, config: object, *, observe: bool = False) -> None:
        raise KeyError("block 5")


def test_an_error_of_the_scheduler_is_a_failure_of_the_scenario(
    document: dict[str, Any], write_log: Write
) -> None:
    paths = [write_log(document, "a"), write_log(document, "b")]
    report = replay_paths(paths, kind=f"{__name__}:Broken")
    assert report.passed == {"L1": 0, "L2": 0, "L3": 0}
    assert [failure["level"] for failure in report.failures] == ["L1", "L1"]
    assert "KeyError: 'block 5'" in report.failures[0]["detail"]


def test_the_text_report_names_counts_and_differences(document: dict[str, Any], write_log: Write) -> None:
    _set("steps", 0, "free", 2)(document)
    path = write_log(document)
    lines = replay_paths([path]).lines()
    assert lines[0].startswith(f"{path}: L2: hand_made: iteration 0: free")
    assert lines[1].startswith("L1 (decisions): 1 of 1 scenarios, 9 of 9 decisions agree")
    assert lines[2].startswith("L2")
    assert "0 of 1 scenarios, 8 of 9 decisions" in lines[2]


def test_no_log_at_all_is_refused(write_log: Write) -> None:
    with pytest.raises(InputError, match="no golden log"):
        replay_paths([write_log({"format": "other/1"})])


def test_an_unknown_engine_is_refused(document: dict[str, Any], write_log: Write) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'vllm'"):
        replay_paths([write_log(document)], kind="vlm")


def test_an_empty_report_is_ok_and_counts_nothing() -> None:
    report = ConformanceReport()
    assert report.passed == {"L1": 0, "L2": 0, "L3": 0}
    assert report.decisions == 0
