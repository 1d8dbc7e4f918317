"""The radix tree with host memory behind it answers as SGLang's did, operation by operation.

`sglang_hicache.json` holds what the unmodified `UnifiedRadixCache` of SGLang 0.5.23 (its tree in Python,
with HiCache) answered to random operations, and its state after each; lists stood in for its tensors, and
copies and loads were acknowledged at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from simserve.conformance.sglang import replay_paths
from simserve.conformance.sglang_hicache import replay_hicache_log
from simserve.errors import InputError
from simserve.kvcache.radix import RadixCache

RECORDED = Path(__file__).with_name("sglang_hicache.json")
HAND_MADE: dict[str, Any] = {
    "format": "simserve-sglang-hicache/1",
    "programs": [
        {
            "policy": "lru",
            "write_policy": "write_through",
            "page_size": 1,
            "host_tokens": 100,
            "ops": [
                ["insert", [[[1, 0, 4]], 4, 0, 0], 0, [4, 0, 4, 1]],
                ["evict", [1], 4, [0, 0, 4, 1]],
                ["find", [[[1, 0, 4]], 3], [0, 3], [0, 0, 4, 2]],
                ["load", [[[1, 0, 4]], 4], [0, 4], [4, 0, 4, 2]],
                ["lock", [[[1, 0, 4]], 4, 0], [4, 0], [0, 4, 4, 2]],
                ["unlock", [0], None, [4, 0, 4, 2]],
                ["enter", [[[2, 0, 6]], 6, 0, 5], 5, [4, 0, 9, 3]],
                ["evict_host", [1], 5, [4, 0, 4, 2]],
            ],
        }
    ],
}


def test_recorded_answers_and_states_agree() -> None:
    report = replay_paths([RECORDED])
    assert [outcome.failures for outcome in report.checks] == [()] * 21
    assert sum(outcome.checks for outcome in report.checks) == 2 * 1260
    programs = json.loads(RECORDED.read_text(encoding="utf-8"))["programs"]
    met = {action for program in programs for action, *_ in program["ops"]}
    assert met == {"insert", "find", "lock", "unlock", "evict", "evict_host", "load", "enter"}


def test_a_hand_made_log() -> None:
    (outcome,) = replay_hicache_log(HAND_MADE, "hand.json")
    assert (outcome.checks, outcome.agreed, outcome.failures) == (16, 16, ())


@pytest.mark.parametrize(
    ("name", "mutant"),
    [
        ("_HITS_TO_COPY", {"through": 1, "second_use": 3, "back": 0}),
        ("HostCopies._drop_second_copies", lambda tree, tokens: 0),
        ("HostCopies._split", RadixCache._split),
    ],
)
def test_a_broken_rule_is_found(monkeypatch: pytest.MonkeyPatch, name: str, mutant: Any) -> None:
    monkeypatch.setattr(f"simserve.kvcache.radix_host_copies.{name}", mutant)
    assert [failure for outcome in replay_paths([RECORDED]).checks for failure in outcome.failures]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"write_policy": "write_around"}, r"programs\[0\].write_policy: expected write_through"),
        ({"policy": "lrv"}, "did you mean 'lru'"),
        ({"host_tokens": -1}, "expected at least 0"),
        ({"ops": [["evict", [1, 2], 0, []]]}, r"ops\[0\]: 'evict' is no operation with these arguments"),
        ({"ops": [["find", [3, 4], 0, []]]}, "expected a sequence"),
        ({"ops": [["find"]]}, "expected \\[operation"),
    ],
)
def test_malformed_logs_are_refused(change: dict[str, Any], words: str) -> None:
    program = HAND_MADE["programs"][0] | change
    with pytest.raises(InputError, match=words):
        replay_hicache_log(HAND_MADE | {"programs": [program]}, "hand.json")
