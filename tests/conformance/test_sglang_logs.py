"""Replaying SGLang's golden logs: the real ones agree, changed ones and changed rules are caught."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simserve.conformance.sglang import replay_paths
from simserve.errors import InputError
from simserve.scheduler.sglang import SglangScheduler
from simserve.scheduler.sglang.row import Row

Write = Callable[..., Path]

# Worked out by hand: pages of 4 tokens, no overlap. Request 0 computes 6 tokens in two pages, of which the
# tree gets the first; request 1 comes a pass later with the same first 4 tokens, hits them and computes 2.
HAND_MADE: dict[str, Any] = {
    "format": "simserve-sglang-loop/1",
    "name": "hand_made",
    "config": {
        "pool_tokens": 40,
        "page_size": 4,
        "max_running_requests": 4,
        "max_prefill_tokens": 64,
        "chunked_prefill_size": None,
        "enable_mixed_chunk": False,
        "schedule_policy": "fcfs",
        "disable_radix_cache": False,
        "context_len": 64,
        "schedule_conservativeness": 1.0,
        "overlap": False,
        "prefill_max_requests": None,
        "enable_priority_scheduling": False,
        "schedule_low_priority_values_first": False,
        "priority_scheduling_preemption_threshold": 10,
        "retraction_policy": "length",
        "radix_eviction_policy": "lru",
        "prefill_decode_interval": 0,
        "prefill_decode_interval_min_bs": 0,
    },
    "iterations": 3,
    "final": [36, 4, 0],
    "requests": [
        {"id": 0, "arrival": 0, "prompt": [[7, 0, 6]], "max_new": 2},
        {"id": 1, "arrival": 1, "prompt": [[7, 0, 4], [8, 0, 2]], "max_new": 1},
    ],
    "steps": [
        {
            "i": 0, "add": [0], "mode": "extend", "s": [[0, 6, 0]], "run": [], "wait": [], "full": 0,
            "sched": [32, 0, 0], "end": [32, 0, 4], "ratio": 0.7,
        },
        {
            "i": 1, "add": [1], "mode": "extend", "s": [[1, 2, 4]], "run": [0], "wait": [], "full": 0,
            "sched": [28, 0, 4], "fin": [1], "end": [32, 0, 4], "ratio": 0.7,
        },
        {
            "i": 2, "mode": "decode", "run": [0], "wait": [], "full": 0, "sched": [32, 0, 4], "fin": [0],
            "end": [36, 4, 0], "ratio": 0.7 - (0.7 - 0.7 * 0.14) / 600,
        },
    ],
    "results": [
        {
            "id": 0, "arrival": 0, "max_new": 2, "first_sched": 0, "first_token": 0, "finish": 2, "n_out": 2,
            "cached": 0, "retractions": 0, "reason": "length",
        },
        {
            "id": 1, "arrival": 1, "max_new": 1, "first_sched": 1, "first_token": 1, "finish": 1, "n_out": 1,
            "cached": 4, "retractions": 0, "reason": "length",
        },
    ],
}  # fmt: skip


@pytest.fixture
def hand_made() -> dict[str, Any]:
    return copy.deepcopy(HAND_MADE)


def test_every_real_log_agrees_at_every_level(data_dir: Path) -> None:
    golden = data_dir / "golden"
    report = replay_paths([golden / "sglang", golden / "sglang_loop"])
    assert report.failures == []
    assert report.notes == []
    loops = len(report.loops.outcomes)
    assert loops >= 122
    assert report.loops.decisions > 30_000
    checks = sum(outcome.checks for outcome in report.checks)
    assert checks > 12_000
    assert report.passed == {"L1": loops, "L2": loops, "L3": loops, "checks": checks}
    assert report.ok


def test_the_hand_made_log_agrees(hand_made: dict[str, Any], write_log: Write) -> None:
    report = replay_paths([write_log(hand_made)])
    assert report.to_json()["passed"] == {"L1": 1, "L2": 1, "L3": 1, "checks": 0}
    assert report.failures == []


@pytest.mark.parametrize(
    ("step", "key", "value", "level"),
    [
        (0, "s", [[0, 5, 0]], "L1"),
        (1, "mode", "mixed", "L1"),
        (1, "run", [], "L1"),
        (1, "wait", [1], "L1"),
        (1, "chunk", 1, "L1"),
        (2, "fin", [], "L1"),
        (2, "retr", [1], "L1"),
        (0, "sched", [31, 0, 0], "L2"),
        (0, "end", [32, 4, 0], "L2"),
        (2, "evict", 4, "L2"),
        (1, "full", 1, "L3"),
        (2, "ratio", 0.7, "L3"),
    ],
)
def test_a_difference_is_found_at_its_level(
    hand_made: dict[str, Any], write_log: Write, step: int, key: str, value: Any, level: str
) -> None:
    hand_made["steps"][step][key] = value
    report = replay_paths([write_log(hand_made)])
    (failure,) = report.failures
    assert failure["level"] == level
    assert f"pass {step}: {key}: expected {value}" in failure["detail"]
    assert report.passed[level] == 0


@pytest.mark.parametrize("key", ["first_sched", "finish", "n_out", "cached", "reason", "retractions"])
def test_a_result_that_differs_is_a_decision(hand_made: dict[str, Any], write_log: Write, key: str) -> None:
    hand_made["results"][1][key] = "other"
    (failure,) = replay_paths([write_log(hand_made)]).failures
    assert failure["level"] == "L1"
    assert f"results, request 1: {key}: expected other" in failure["detail"]


def test_a_crash_that_does_not_come_is_a_difference(hand_made: dict[str, Any], write_log: Write) -> None:
    hand_made["crash"] = {"i": 3, "message": "Out of memory."}
    (failure,) = replay_paths([write_log(hand_made)]).failures
    assert "crash: pass: expected 3, got None" in failure["detail"]


# -- malformed logs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("config", "page_size"), 0, "config.page_size: expected at least 1, got 0"),
        (("config", "overlap"), 1, "config.overlap: expected true or false, got 1"),
        (
            ("config", "schedule_conservativeness"),
            "1",
            "schedule_conservativeness: expected a number above 0",
        ),
        (("requests", 0, "prompt"), [[1, 0]], "requests[0].prompt[0]: expected [seed, start, length]"),
        (("requests", 1, "id"), 0, "requests[1].id: request 0 stands twice"),
        (("steps", 1, "i"), 0, "steps[1].i: expected at least 1, got 0"),
        (("steps", 1, "add"), [9], "steps[1].add: request 9 is not in requests"),
        (("results", 0, "id"), 9, "results[0].id: request 9 is not in requests"),
        (("iterations",), None, "iterations: expected a whole number, got None"),
    ],
)
def test_a_malformed_log_is_refused_with_its_place(
    hand_made: dict[str, Any], write_log: Write, keys: tuple[Any, ...], value: Any, message: str
) -> None:
    owner: Any = hand_made
    for key in keys[:-1]:
        owner = owner[key]
    owner[keys[-1]] = value
    path = write_log(hand_made)
    with pytest.raises(InputError) as caught:
        replay_paths([path])
    assert str(caught.value).startswith(f"{path}: malformed golden log: ")
    assert message in str(caught.value)


def test_files_of_other_formats_are_skipped_with_a_note(hand_made: dict[str, Any], write_log: Write) -> None:
    report = replay_paths([write_log(hand_made, "a"), write_log({"format": "other"}, "b")])
    assert len(report.loops.outcomes) == 1
    assert "b.json: not a golden log of SGLang, skipped" in report.notes[0]
    with pytest.raises(InputError, match="no golden log of SGLang"):
        replay_paths([write_log([], "c")])


def test_an_option_that_makes_no_sense_is_a_failure_of_the_scenario(
    hand_made: dict[str, Any], write_log: Write
) -> None:
    hand_made["config"]["schedule_policy"] = "fastest"
    (failure,) = replay_paths([write_log(hand_made)]).failures
    assert "schedule_policy 'fastest' is unknown" in failure["detail"]


# -- mutants: each breaks one rule, and the real logs see it ------------------------------------------------


class WrongVictim(SglangScheduler):
    """Retracts those that come first in the order of those to keep."""

    def _order_to_keep(self) -> list[Row]:
        return super()._order_to_keep()[::-1]


class LostPage(SglangScheduler):
    """Forgets a page of each request that ends."""

    def _finish(self, row: Row, step: int) -> None:
        super()._finish(row, step)
        self.pool.free -= self.pool.page_size


class BrokenTie(SglangScheduler):
    """Sorts requests of equal rank by descending id."""

    def _form_prefill(self) -> Any:
        self.waiting.sort(key=lambda row: -row.id)
        return super()._form_prefill()


class EarlyPublish(SglangScheduler):
    """Publishes a prompt when its batch is launched, where passes overlap too."""

    def _seat(self, row: Row) -> None:
        super()._seat(row)
        self.pool.checkpoint(row, row.committed)


class Swapped(SglangScheduler):
    """Decodes before it prefills."""

    def _form_prefill(self) -> Any:
        return None if self.batch.rows else super()._form_prefill()


@pytest.mark.parametrize(
    ("mutant", "logs"),
    [
        ("WrongVictim", "04_*"),
        ("LostPage", "01_*"),
        ("BrokenTie", "03_*"),
        ("EarlyPublish", "05_*_overlap*"),
        ("Swapped", "02_*"),
    ],
)
def test_a_mutant_fails(data_dir: Path, mutant: str, logs: str) -> None:
    paths = sorted((data_dir / "golden" / "sglang_loop").glob(logs))
    assert paths
    assert replay_paths(paths).ok
    report = replay_paths(paths, kind=f"{__name__}:{mutant}")
    assert len(report.failures) > 0
    assert all("Error" not in failure["detail"] for failure in report.failures)


def test_the_command_prints_the_report_and_fails_on_a_difference(
    hand_made: dict[str, Any], write_log: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    from simserve.cli.conformance import check_conformance

    check_conformance("sglang", [str(write_log(hand_made))], as_json=True)
    assert json.loads(capsys.readouterr().out)["failures"] == []
    hand_made["steps"][0]["wait"] = [1]
    with pytest.raises(SystemExit):
        check_conformance("sglang", [str(write_log(hand_made))], as_json=False)
    assert "L1 (decisions): 0 of 1 scenarios" in capsys.readouterr().out
