"""Replays logs of operations on SGLang's radix cache through the simulator's.

A log is a list of scenarios; each has token sequences, operations (match, insert, lock, unlock, evict) with
the results that SGLang gave, the sizes after each, and sometimes the whole tree. The logs of the classic
tree also name what was evicted, in order.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from typing import Any

from simserve.conformance.case_outcome import CaseOutcome, Pair, compare_operations
from simserve.conformance.checker import Checker, is_whole
from simserve.errors import InputError
from simserve.kvcache.eviction import EvictionPolicy, build_eviction
from simserve.kvcache.prefix_keys import merge_segments
from simserve.kvcache.radix import RadixCache
from simserve.kvcache.radix_node import RadixNode
from simserve.workload.request import Segment

# Tokens of stream s begin at s times this (the format's definition).
_STREAM_TOKENS = 65_536
# Fields of each operation.
_FIELDS = {"match": 5, "insert": 7, "lock": 2, "unlock": 2, "evict": 2}
# Option names of SGLang's own eviction config, where they differ.
_OPTION_NAMES = {"protected_threshold": "threshold"}


def is_cache_log(document: Any) -> bool:
    """Whether a parsed JSON document is a log of cache operations."""
    return (
        isinstance(document, dict)
        and isinstance(document.get("scenarios"), list)
        and all(isinstance(item, dict) and "ops" in item for item in document["scenarios"])
        and "format" not in document
    )


def replay_cache_log(document: dict[str, Any], file: str) -> list[CaseOutcome]:
    """Replay the scenarios of a log.

    Args:
        document: The parsed JSON (see `is_cache_log`).
        file: Its path, for messages.

    Raises:
        InputError: If the log does not have its form, or names an unknown eviction policy.
    """
    check = Checker(file)
    scenarios = check.array(document, "scenarios", "")
    return [_Replay(check, raw, f"scenarios[{n}]").run() for n, raw in enumerate(scenarios)]


class _Replay:
    """One scenario: the cache under test, its named nodes, and what has been compared."""

    def __init__(self, check: Checker, raw: dict[str, Any], where: str) -> None:
        self.check = check
        self.where = where
        self.name = str(raw.get("name", where))
        self.sequences = [
            self._read_sequence(item, f"{where}.seqs[{n}]")
            for n, item in enumerate(check.array(raw, "seqs", where))
        ]
        self.ops = check.array(raw, "ops", where)
        self.dumps = check.mapping(raw, "dumps", where) if raw.get("dumps") else {}
        for n, row in enumerate(self.ops):
            self._check_row(row, f"{where}.ops[{n}]")
        # The logs of the unified tree record three sizes, those of the classic one five.
        self.classic = not self.ops or len(self.ops[0][2]) == 5
        self.cache = RadixCache(
            check.whole(raw, "page_size", where, 1),
            self._build_eviction(raw),
            split_keeps_creation=not self.classic,
        )
        self.cache.on_evict = self._note_eviction
        self.evicted: list[list[int]] = []
        self.handles: dict[str, RadixNode] = {}

    def _build_eviction(self, raw: dict[str, Any]) -> EvictionPolicy:
        name = str(self.check.value(raw, "policy", self.where))
        options = self.check.mapping(raw, "policy_config", self.where) if raw.get("policy_config") else {}
        try:
            return build_eviction(name, {_OPTION_NAMES.get(key, key): options[key] for key in options})
        except InputError as error:
            self.check.fail(f"{self.where}.policy", str(error))

    def run(self) -> CaseOutcome:
        """Drive the cache through the operations and compare what the log has."""
        operations = [(row[0], partial(self._compare, number, row)) for number, row in enumerate(self.ops)]
        return compare_operations(self.check.file, self.name, operations)

    def _compare(self, number: int, row: list[Any]) -> list[Pair]:
        """Do one operation; return what to compare: (what, expected, got)."""
        result = self._apply(row[0])
        pairs: list[Pair] = [("state", row[2], self._state())]
        # The unified logs leave out what locking gave.
        if row[1] is not None:
            pairs.insert(0, ("result", row[1], result))
        dump = self.dumps.get(str(number + 1))
        if dump is not None:
            pairs.append(("tree", dump, self._dump(self.cache.root)))
        return pairs

    def _apply(self, op: list[Any]) -> Any:
        kind = op[0]
        cache = self.cache
        if kind == "evict":
            self.evicted = []
            freed = cache.evict(op[1])
            return [freed, self.evicted] if self.classic else freed
        if kind == "lock":
            return -cache.lock(self.handles[op[1]])
        if kind == "unlock":
            return cache.unlock(self.handles[op[1]])
        segments = self.sequences[op[1]]
        tokens = sum(segment.length for segment in segments) if op[2] is None else op[2]
        if kind == "match":
            node, found = cache.match(segments, tokens, op[4])
            handle = op[3]
        else:
            node, found = cache.insert(segments, tokens, op[3], op[4], op[6])
            handle = op[5]
        if handle is not None:
            self.handles[handle] = node
        return found

    def _note_eviction(self, node: RadixNode) -> None:
        self.evicted.append([node.depth - node.length, node.length, node.key[0].start])

    def _state(self) -> list[int]:
        cache = self.cache
        sizes = [cache.evictable_tokens, cache.protected_tokens, cache.total_tokens]
        if self.classic:
            sizes += [cache.num_nodes, sum(node.evictable for node in cache.nodes())]
        return sizes

    def _dump(self, node: RadixNode) -> list[Any]:
        """The trees below a node in the form of the log, sorted by namespace and first page."""
        children = sorted(node.children.values(), key=self._order)
        return [[c.length, c.key[0].start, c.locks, c.hits, c.priority, self._dump(c)] for c in children]

    def _order(self, node: RadixNode) -> tuple[str, list[int]]:
        place = node.place
        namespace = place[0] if isinstance(place, tuple) and isinstance(place[0], str) else ""
        tokens = [token for _, start, length in node.key for token in range(start, start + length)]
        return namespace, tokens[: self.cache.page_size]

    def _read_sequence(self, raw: Any, where: str) -> list[Segment]:
        """Read a sequence as segments of one stream of all tokens: streams may run into each other."""
        if isinstance(raw, str) and (raw.isdecimal() or not raw):
            return merge_segments(Segment(0, int(digit), 1) for digit in raw)
        if not isinstance(raw, list):
            self.check.fail(where, f"expected segments or a string of digits, got {raw!r}")
        segments = []
        for n, item in enumerate(raw):
            if not (isinstance(item, list) and len(item) == 3 and all(is_whole(part) for part in item)):
                self.check.fail(f"{where}[{n}]", f"expected [stream, start, length], got {item!r}")
            segments.append(Segment(0, item[0] * _STREAM_TOKENS + item[1], item[2]))
        return merge_segments(segments)

    def _check_row(self, row: Any, where: str) -> None:
        fail = self.check.fail
        if not (isinstance(row, list) and len(row) == 3 and isinstance(row[0], list) and row[0]):
            fail(where, f"expected [operation, result, state], got {row!r}")
        op = row[0]
        fields = _FIELDS.get(op[0]) if isinstance(op[0], str) else None
        if fields is None or len(op) != fields:
            fail(where, f"expected one of {', '.join(_FIELDS)} with its fields, got {op!r}")
        if op[0] in ("match", "insert"):
            if not is_whole(op[1]) or not 0 <= op[1] < len(self.sequences):
                fail(where, f"sequence {op[1]!r} is not in seqs")
            length = sum(segment.length for segment in self.sequences[op[1]])
            if op[2] is not None and not (is_whole(op[2]) and 0 <= op[2] <= length):
                fail(where, f"expected at most {length} tokens of the sequence, got {op[2]!r}")
            if not isinstance(op[-1], Hashable):
                fail(where, f"expected a namespace, got {op[-1]!r}")
        if not isinstance(row[2], list) or len(row[2]) not in (3, 5):
            fail(where, f"expected three or five sizes, got {row[2]!r}")
