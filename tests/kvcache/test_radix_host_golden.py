"""The hosted radix tree answers what SGLang's own did to 1,260 recorded operations, under every policy.

`sglang_hicache.json` holds what `UnifiedRadixCache` of SGLang 0.5.23 answered to random operations, and its
state after each. Tokens of stream s at position p are equal where (s, p) are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from simserve.kvcache.eviction import build_eviction
from simserve.kvcache.radix_host import HostedRadixCache
from simserve.kvcache.radix_host_node import HostedNode
from simserve.kvcache.tier import WriteMode
from simserve.workload.request import Segment

PROGRAMS: list[dict[str, Any]] = json.loads(Path(__file__).with_name("sglang_hicache.json").read_text())[
    "programs"
]
WRITES: dict[str, WriteMode] = {
    "write_through": "through",
    "write_through_selective": "second_use",
    "write_back": "back",
}


class Replay:
    """A tree, and the locks that the program holds by name."""

    def __init__(self, program: dict[str, Any]) -> None:
        policies = [build_eviction(program["policy"]) for _ in range(2)]
        write = WRITES[program["write_policy"]]
        self.tree = HostedRadixCache(program["page_size"], *policies, program["host_tokens"], write)
        self.held: dict[int, HostedNode] = {}

    def do(self, action: str, words: list[Any]) -> Any:
        """Do one operation; return the tree's answer."""
        tree = self.tree
        if action == "evict":
            return tree.evict(*words)
        if action == "evict_host":
            return tree.evict_host(*words)
        if action == "unlock":
            tree.unlock(self.held.pop(words[0]))
            return None
        segments = [Segment(*each) for each in words[0]]
        if action == "insert":
            return tree.insert(segments, *words[1:])[1]
        match = tree.find(segments, words[1])
        if action == "lock":
            self.held[words[2]] = match.node
            tree.lock(match.node)
        elif action == "load":
            tree.lock(match.host_node)
            tree.load_back(match.host_node)
            tree.unlock(match.host_node)
        elif action == "enter":
            return tree.enter_on_host(segments, *words[2:])
        return [match.tokens, match.host_tokens]


@pytest.mark.parametrize(
    "program", PROGRAMS, ids=[f"{each['write_policy']}-{each['policy']}" for each in PROGRAMS]
)
def test_every_answer_and_state_agrees(program: dict[str, Any]) -> None:
    replay = Replay(program)
    for number, (action, words, answer, state) in enumerate(program["ops"]):
        assert (number, action, replay.do(action, words)) == (number, action, answer)
        tree = replay.tree
        tree.check_integrity()
        seen = [tree.evictable_tokens, tree.protected_tokens, tree.host_tokens, tree.num_nodes]
        assert (number, action, seen) == (number, action, state)


def test_the_programs_meet_every_operation() -> None:
    met = {action for program in PROGRAMS for action, *_ in program["ops"]}
    assert met == {"insert", "find", "lock", "unlock", "evict", "evict_host", "load", "enter"}
    assert sum(len(program["ops"]) for program in PROGRAMS) == 1260
