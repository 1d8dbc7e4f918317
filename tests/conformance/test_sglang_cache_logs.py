"""The radix cache answers as SGLang's did, operation by operation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from simserve.conformance.sglang_cache import is_cache_log, replay_cache_log
from simserve.errors import InputError

# Two prompts of the same four tokens, by hand: the second splits the first, the older tail goes first.
HAND_MADE: dict[str, Any] = {
    "source": "by hand",
    "scenarios": [
        {
            "name": "hand",
            "page_size": 1,
            "policy": "lru",
            "policy_config": None,
            "seqs": [[[1, 0, 4], [2, 0, 2]], "12", [[1, 0, 4], [3, 0, 3]]],
            "ops": [
                [["insert", 0, None, 0, 0, "a", None], 0, [6, 0, 6, 1, 1]],
                [["insert", 2, None, 5, 0, None, None], 4, [9, 0, 9, 3, 2]],
                [["match", 1, 1, None, "salt"], 0, [9, 0, 9, 3, 2]],
                [["lock", "a"], -6, [3, 6, 9, 3, 1]],
                [["unlock", "a"], 6, [9, 0, 9, 3, 2]],
                [["evict", 1], [2, [[4, 2, 131072]]], [7, 0, 7, 2, 1]],
            ],
            "dumps": {
                "2": [[4, 65536, 0, 2, 5, [[2, 131072, 0, 1, 0, []], [3, 196608, 0, 1, 5, []]]]],
            },
        }
    ],
}


def change(path: str, value: Any) -> dict[str, Any]:
    """The hand-made log with one value replaced."""
    document = json.loads(json.dumps(HAND_MADE))
    owner = document["scenarios"][0]
    *steps, last = path.split(".")
    for step in steps:
        owner = owner[int(step) if isinstance(owner, list) else step]
    owner[int(last) if isinstance(owner, list) else last] = value
    return document  # type: ignore[no-any-return]


def test_hand_made_log() -> None:
    (outcome,) = replay_cache_log(HAND_MADE, "hand.json")
    assert (outcome.checks, outcome.agreed, outcome.failures) == (13, 13, ())


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("ops.1.1", 3, "op 1"),
        ("ops.3.2", [9, 0, 9, 3, 2], "state"),
        ("ops.5.1", [3, [[4, 3, 196608]]], "op 5"),
        ("dumps.2", [], "tree"),
        ("policy", "mru", "op 5"),
    ],
)
def test_every_kind_of_difference_is_found(path: str, value: Any, words: str) -> None:
    (outcome,) = replay_cache_log(change(path, value), "hand.json")
    assert outcome.agreed < outcome.checks
    assert words in outcome.failures[0]


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("ops.0.0", ["grow", 0], "match, insert, lock"),
        ("ops.0.0", ["insert", 7, None, 0, 0, None, None], "not in seqs"),
        ("ops.2.0", ["match", 1, 3, None, None], "at most 2 tokens"),
        ("ops.0.2", [1], "three or five sizes"),
        ("seqs.1", "1x", "string of digits"),
        ("seqs.0", [[1, 0]], "[stream, start, length]"),
        ("page_size", 0, "at least 1"),
        ("policy", "lrv", "lru"),
        ("policy_config", {"threshold": 1}, "option of LRU"),
    ],
)
def test_malformed_logs_are_bad_input(path: str, value: Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        replay_cache_log(change(path, value), "hand.json")
    assert words in str(caught.value)


def test_golden_logs(data_dir: Path) -> None:
    outcomes = []
    for path in sorted((data_dir / "golden" / "sglang").glob("*.json")):
        document = json.loads(path.read_text())
        if is_cache_log(document):
            outcomes += replay_cache_log(document, str(path))
    assert len(outcomes) >= 32
    assert [outcome.failures for outcome in outcomes if outcome.failures] == []
    assert sum(outcome.checks for outcome in outcomes) == sum(outcome.agreed for outcome in outcomes) > 10_000
