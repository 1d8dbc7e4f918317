"""Reading golden logs: what is found, what is skipped, and what is refused with its place."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simserve.conformance.golden import find_logs, read_log
from simserve.errors import InputError
from simserve.workload.request import Segment

Write = Callable[..., Path]


def test_a_log_is_read(document: dict[str, Any], write_log: Write) -> None:
    document["requests"][1] |= {"priority": -2, "arrival_time": 0.5, "out_seed": 9, "eos_at": 1}
    document["aborts"] = [[2, 0], [2, 1]]
    log = read_log(write_log(document))
    assert log is not None
    first, second = log.requests
    assert first.prompt == (Segment(7, 0, 5),)
    assert (first.priority, first.arrival_time, first.out_seed, first.eos_at) == (0, 0.0, 1_000_000, None)
    assert (second.priority, second.arrival_time, second.out_seed, second.eos_at) == (-2, 0.5, 9, 1)
    assert log.aborts == {2: [0, 1]}
    assert log.config["kv_groups"] == [None]
    assert log.config["spec"] is None
    assert log.notes == ()


def test_windows_and_speculation_are_read(document: dict[str, Any], write_log: Write) -> None:
    document["config"]["kv_groups"].append({"type": "swa", "window": 12})
    document["config"]["spec"] = {"mode": "eagle", "k": 3}
    log = read_log(write_log(document))
    assert log is not None
    assert log.config["kv_groups"] == [None, 12]
    assert log.config["spec"] == ("eagle", 3)


def test_compressed_logs_are_read(document: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "log.json.gz"
    path.write_bytes(gzip.compress(json.dumps(document).encode()))
    log = read_log(path)
    assert log is not None
    assert log.name == "hand_made"


def test_an_unknown_config_key_is_noted(document: dict[str, Any], write_log: Write) -> None:
    document["config"]["num_gpus"] = 2
    log = read_log(write_log(document))
    assert log is not None
    assert len(log.notes) == 1
    assert "config.num_gpus" in log.notes[0]


@pytest.mark.parametrize("other", [[], {}, {"format": "something-else/1"}, 3])
def test_other_formats_are_none(other: object, write_log: Write) -> None:
    assert read_log(write_log(other)) is None


def test_files_are_found_once_and_in_order(
    document: dict[str, Any], write_log: Write, tmp_path: Path
) -> None:
    b, a = write_log(document, "b"), write_log(document, "a")
    (tmp_path / "notes.txt").write_text("no log")
    assert find_logs([tmp_path]) == [a, b]
    assert find_logs([b, tmp_path]) == [b, a]


def test_a_missing_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere.*no such file"):
        find_logs([tmp_path / "nowhere"])


def _change(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    """A change of one key, `a.b.0.c`; the value `...` deletes it."""

    def apply(document: dict[str, Any]) -> None:
        *owners, last = path.split(".")
        owner: Any = document
        for key in owners:
            owner = owner[int(key)] if isinstance(owner, list) else owner[key]
        if value is ...:
            del owner[last]
        else:
            owner[int(last) if isinstance(owner, list) else last] = value

    return apply


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("config", ..., "config: missing"),
        ("config", [], "config: expected an object, got list"),
        ("config.block_size", "4", r"config\.block_size: expected a whole number"),
        ("config.block_size", 0, r"config\.block_size: expected at least 1, got 0"),
        ("config.block_size", True, r"config\.block_size: expected a whole number"),
        ("config.policy", "prioritty", "did you mean 'priority'"),
        ("config.async_scheduling", 1, r"config\.async_scheduling: expected true or false"),
        ("config.spec", {"mode": "egale", "k": 1}, "did you mean 'eagle'"),
        ("config.spec", {"mode": "eagle"}, r"config\.spec\.k: missing"),
        ("config.kv_groups", [], "at least one group"),
        ("config.kv_groups", [{"type": "swa"}], r"config\.kv_groups\[0\]\.window: missing"),
        ("requests", {}, "requests: expected a list"),
        ("requests.1.id", 0, r"requests\[1\]\.id: request 0 stands twice"),
        ("requests.1.max_tokens", 0, r"requests\[1\]\.max_tokens: expected at least 1"),
        ("requests.1.arrival_time", "now", r"requests\[1\]\.arrival_time: expected a number"),
        ("requests.0.prompt", [], r"requests\[0\]\.prompt: expected at least one segment"),
        ("requests.0.prompt", [[1, 2]], r"requests\[0\]\.prompt\[0\]: expected \[seed, start, length\]"),
        ("requests.0.prompt", [[1, 0, 0]], "length >= 1"),
        ("aborts", [[1]], r"aborts\[0\]: expected \[iteration, id\]"),
        ("aborts", [[1, 5]], r"aborts\[0\]: request 5 is not in requests"),
        ("steps.1.i", 0, r"steps\[1\]\.i: expected at least 1, got 0"),
        ("steps.1", 7, r"steps\[1\]: expected an object"),
        ("steps.1.s", {}, r"steps\[1\]\.s: expected a list"),
        ("steps.1.u", [], r"steps\[1\]\.u: expected an object"),
        ("results.0.id", 5, r"results\[0\]\.id: request 5 is not in requests"),
        ("final_free_queue", ["a"], "final_free_queue: expected block ids"),
        ("iterations", ..., "iterations: missing"),
    ],
)
def test_malformed_logs_are_refused(
    document: dict[str, Any], write_log: Write, path: str, value: object, message: str
) -> None:
    _change(path, value)(document)
    with pytest.raises(InputError, match=message) as caught:
        read_log(write_log(document))
    assert caught.value.file is not None
    assert caught.value.file.endswith("log.json")


def test_broken_json_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text('{"format": "simserve-vllm-golden/1",\n "config": }')
    with pytest.raises(InputError, match="malformed JSON") as caught:
        read_log(path)
    assert (caught.value.line, caught.value.column) == (2, 12)


@pytest.mark.parametrize("content", [b"\x1f\x8bnot gzip", b"\xff\xfe\xff", b"[" * 100_000])
def test_unreadable_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "log.json"
    path.write_bytes(content)
    with pytest.raises(InputError):
        read_log(path)
