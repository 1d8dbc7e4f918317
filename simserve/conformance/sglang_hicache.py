"""Replays logs of operations on SGLang's radix tree with host memory behind the GPU's (HiCache).

A log (`simserve-sglang-hicache/1`) is a list of programs, each for one eviction and one write policy; a row
is [operation, arguments, answer, state]. Sequences are lists of [stream, start, length]; equal tokens of
streams are equal tokens. State: evictable and protected tokens of the device, tokens of the host, nodes.

| operation | arguments | answer |
|---|---|---|
| insert | sequence, tokens, priority, tokens inserted before | tokens that the device had |
| find | sequence, tokens | [tokens on the device, tokens that the host adds] |
| lock | sequence, tokens, name | the same; the part on the device is locked |
| unlock | name | null |
| load | sequence, tokens | as find; then the host's part is put on the device |
| enter | sequence, tokens, begin, end | tokens begin to end come from behind the host: those that it gains |
| evict, evict_host | tokens | tokens that device or host has dropped |
"""

from __future__ import annotations

from functools import partial
from typing import Any

from simserve.conformance.case_outcome import CaseOutcome, Pair, compare_operations
from simserve.conformance.checker import Checker, is_whole
from simserve.errors import InputError
from simserve.kvcache.eviction import build_eviction
from simserve.kvcache.radix_host import HostedRadixCache
from simserve.kvcache.radix_host_node import HostedNode
from simserve.kvcache.tier import WriteMode
from simserve.workload.request import Segment

HICACHE_FORMAT = "simserve-sglang-hicache/1"
# SGLang's hicache_write_policy, and what tiers call it.
WRITE_MODES: dict[str, WriteMode] = {
    "write_through": "through",
    "write_through_selective": "second_use",
    "write_back": "back",
}
# Arguments of each operation, beside a sequence.
_NUMBERS = {"insert": 3, "find": 1, "lock": 2, "load": 1, "enter": 3}
_NUMBERS_ALONE = ("unlock", "evict", "evict_host")


def replay_hicache_log(document: dict[str, Any], file: str) -> list[CaseOutcome]:
    """Replay the programs of a log.

    Args:
        document: The parsed JSON, of format `HICACHE_FORMAT`.
        file: Its path, for messages.

    Raises:
        InputError: If the log does not have its form, or names an unknown policy.
    """
    check = Checker(file)
    programs = check.array(document, "programs", "")
    return [_Replay(check, check.record(raw, f"programs[{n}]"), n).run() for n, raw in enumerate(programs)]


class _Replay:
    """One program: the tree under test, and the locks that it holds by name."""

    def __init__(self, check: Checker, raw: dict[str, Any], number: int) -> None:
        self.check = check
        self.where = where = f"programs[{number}]"
        self.rows = check.array(raw, "ops", where)
        for n, row in enumerate(self.rows):
            self._check_row(row, f"{where}.ops[{n}]")
        policy, write = check.value(raw, "policy", where), check.value(raw, "write_policy", where)
        self.name = f"{write} {policy}"
        if write not in WRITE_MODES:
            check.fail(f"{where}.write_policy", f"expected {', '.join(WRITE_MODES)}, got {write!r}")
        try:
            device, host = build_eviction(str(policy)), build_eviction(str(policy))
        except InputError as error:
            check.fail(f"{where}.policy", str(error))
        self.tree = HostedRadixCache(
            check.whole(raw, "page_size", where, 1),
            device,
            host,
            check.whole(raw, "host_tokens", where, 0),
            WRITE_MODES[write],
        )
        self.held: dict[int, HostedNode] = {}

    def _check_row(self, row: Any, where: str) -> None:
        if not isinstance(row, list) or len(row) != 4 or not isinstance(row[1], list):
            self.check.fail(where, "expected [operation, arguments, answer, state]")
        action, words = row[0], row[1]
        numbers = words if action in _NUMBERS_ALONE else words[1:]
        count = 1 if action in _NUMBERS_ALONE else _NUMBERS.get(action, -1)
        if len(numbers) != count or not all(is_whole(word) for word in numbers):
            self.check.fail(where, f"{action!r} is no operation with these arguments")
        if action in _NUMBERS and not all(
            isinstance(part, list) and len(part) == 3 and all(is_whole(each) for each in part)
            for part in (words[0] if isinstance(words[0], list) else [None])
        ):
            self.check.fail(where, "expected a sequence of [stream, start, length]")

    def run(self) -> CaseOutcome:
        """Drive the tree through the operations and compare answers and states."""
        operations = [(row[0], partial(self._compare, row)) for row in self.rows]
        return compare_operations(self.check.file, self.name, operations)

    def _compare(self, row: list[Any]) -> list[Pair]:
        """Do one operation; return what to compare."""
        action, words, answer, state = row
        got = self._do(action, words)
        self.tree.check_integrity()
        return [("answer", answer, got), ("state", state, self._state())]

    def _do(self, action: str, words: list[Any]) -> Any:
        tree = self.tree
        if action == "evict":
            return tree.evict(words[0])
        if action == "evict_host":
            return tree.evict_host(words[0])
        if action == "unlock":
            tree.unlock(self.held.pop(words[0]))
            return None
        segments = [Segment(*part) for part in words[0]]
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

    def _state(self) -> list[int]:
        tree = self.tree
        return [tree.evictable_tokens, tree.protected_tokens, tree.host_tokens, tree.num_nodes]
