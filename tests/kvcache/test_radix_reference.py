"""The radix cache decides what a token-by-token tree does that scans all leaves for its victims."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.errors import IntegrityError
from simserve.kvcache.eviction import EvictionPolicy, build_eviction
from simserve.kvcache.prefix_keys import merge_segments
from simserve.kvcache.radix import RadixCache
from simserve.kvcache.radix_node import RadixNode
from simserve.workload.request import Segment


class Run:
    """A node of the reference: plain tokens."""

    def __init__(self, parent: Run | None, tokens: tuple[int, ...], tick: int) -> None:
        self.parent = parent
        self.tokens = tokens
        self.children: list[Run] = []
        self.locks = self.hits = self.priority = 0
        self.access = self.created = tick
        self.reach = self.end

    @property
    def end(self) -> int:
        return len(self.tokens) + (self.parent.end if self.parent else 0)

    @property
    def begin(self) -> int:
        return self.end - len(self.tokens)


# Policy -> key, on the reference's nodes; `late` 6 and 3 are the options under test.
KEYS: dict[str, tuple[dict[str, Any], Callable[[Run], Any]]] = {
    "lru": ({}, lambda n: n.access),
    "mru": ({}, lambda n: -n.access),
    "lfu": ({}, lambda n: (n.hits, n.access)),
    "fifo": ({}, lambda n: n.created),
    "filo": ({}, lambda n: -n.created),
    "priority": ({}, lambda n: (n.priority, n.access)),
    "slru": ({"threshold": 3}, lambda n: (n.hits >= 3, n.access)),
    "tlru": (
        {"threshold": 6, "next_prompt_estimate": 3},
        lambda n: (0 if n.begin < max(n.reach + 3 - 6, 0) else -1, n.access),
    ),
}


class ReferenceTree:
    """The rules, word for word, on lists of tokens."""

    def __init__(self, page: int, key: Callable[[Run], Any], unified: bool) -> None:
        self.page, self.key, self.unified = page, key, unified
        self.tick = 0
        self.roots: dict[str | None, Run] = {}
        self.victims: list[list[int]] = []

    def now(self) -> int:
        self.tick += 1
        return self.tick

    def walk(self, tokens: list[int], namespace: str | None) -> tuple[Run, int, list[Run]]:
        node = self.roots.setdefault(namespace, Run(None, (), 0))
        passed, at, tick = [], 0, self.now()
        while at < len(tokens):
            child = next(
                (c for c in node.children if list(c.tokens[: self.page]) == tokens[at:][: self.page]), None
            )
            if child is None:
                break
            child.access = tick
            common = 0
            for mine, theirs in zip(child.tokens, tokens[at:], strict=False):
                if mine != theirs:
                    break
                common += 1
            common -= common % self.page
            if common < len(child.tokens):
                child = self.split(child, common)
                passed.append(child)
                return child, at + common, passed
            at += common
            node = child
            passed.append(node)
        return node, at, passed

    def split(self, node: Run, at: int) -> Run:
        parent = node.parent
        assert parent
        upper = Run(parent, node.tokens[:at], self.now())
        for name in ("locks", "hits", "priority", "reach"):
            setattr(upper, name, getattr(node, name))
        if self.unified:
            upper.created = node.created
        parent.children[parent.children.index(node)] = upper
        node.parent, node.tokens = upper, node.tokens[at:]
        upper.children = [node]
        return upper

    def insert(
        self, tokens: list[int], priority: int, inserted: int, namespace: str | None
    ) -> tuple[Run, int]:
        node, at, passed = self.walk(tokens, namespace)
        for run in passed:
            run.priority = max(run.priority, priority)
            run.hits += run.end > inserted
            run.reach = max(run.reach, len(tokens))
        if at < len(tokens):
            leaf = Run(node, tuple(tokens[at:]), self.now())
            leaf.priority, leaf.hits = priority, int(len(tokens) > inserted)
            node.children.append(leaf)
            node = leaf
        return node, at

    def shift(self, node: Run, by: int) -> None:
        while node.parent:
            node.locks += by
            node = node.parent

    def nodes(self) -> list[Run]:
        found: list[Run] = []
        stack = list(self.roots.values())
        while stack:
            node = stack.pop()
            found += node.children
            stack += node.children
        return found

    def evict(self, count: int) -> int:
        gone = 0
        while gone < count:
            leaves = [n for n in self.nodes() if not n.children and not n.locks]
            if not leaves:
                break
            victim = min(leaves, key=lambda n: (self.key(n), n.access))
            assert victim.parent
            victim.parent.children.remove(victim)
            gone += len(victim.tokens)
            self.victims.append([victim.begin, *victim.tokens])
        return gone


def spell(segments: list[Segment]) -> list[int]:
    """The tokens of segments."""
    return [s.stream * 1000 + t for s in segments for t in range(s.start, s.start + s.length)]


class Pair:
    """The cache under test beside the reference."""

    def __init__(
        self, page: int, policy: str, unified: bool, make: Callable[..., RadixCache] = RadixCache
    ) -> None:
        options, key = KEYS[policy]
        self.page = page
        self.cache = make(page, build_eviction(policy, options), split_keeps_creation=unified)
        self.reference = ReferenceTree(page, key, unified)
        self.victims: list[list[int]] = []
        self.cache.on_evict = lambda n: self.victims.append([n.depth - n.length, *spell(n.key)])
        self.held: list[tuple[RadixNode, Run]] = []

    def apply(self, op: tuple[Any, ...]) -> None:
        kind, segments, cut, number, namespace, priority = op
        cache, reference = self.cache, self.reference
        segments = merge_segments(segments)
        tokens = spell(segments)[: len(spell(segments)) - cut]
        aligned = tokens[: len(tokens) - len(tokens) % self.page]
        if kind == "match":
            node, got = cache.match(segments, len(tokens), namespace)
            run, expected, _ = reference.walk(aligned, namespace)
        elif kind == "insert":
            node, got = cache.insert(segments, len(tokens), priority, number, namespace)
            run, expected = reference.insert(aligned, priority, number, namespace)
        elif kind == "evict":
            assert cache.evict(number) == reference.evict(number)
            return
        elif self.held:  # give one back
            node, run = self.held.pop(number % len(self.held))
            cache.unlock(node)
            reference.shift(run, -1)
            return
        else:
            return
        assert got == expected
        assert node.depth == run.end
        if priority % 2:
            self.held.append((node, run))
            cache.lock(node)
            reference.shift(run, 1)

    def check(self) -> None:
        cache = self.cache
        cache.check_integrity()
        nodes = self.reference.nodes()
        locked = sum(len(n.tokens) for n in nodes if n.locks)
        assert cache.protected_tokens == locked
        assert cache.evictable_tokens == sum(len(n.tokens) for n in nodes) - locked
        assert cache.num_nodes == len(nodes)
        assert self.victims == self.reference.victims
        rows = sorted((n.depth, n.locks, n.hits, n.priority, spell(n.key)) for n in cache.nodes())
        assert rows == sorted((n.end, n.locks, n.hits, n.priority, list(n.tokens)) for n in nodes)


SEGMENT = st.builds(
    Segment, st.integers(0, 2), st.integers(0, 3).map(lambda n: 3 * n), st.sampled_from([1, 3, 3, 4, 6, 12])
)
OPERATION = st.tuples(
    st.sampled_from(["match", "insert", "insert", "insert", "unlock", "evict"]),
    st.lists(SEGMENT, max_size=5),
    st.integers(0, 1),
    st.integers(0, 12),
    st.sampled_from([None, None, None, "lora"]),
    st.integers(-1, 3),
)


def drive(pair: Pair, operations: list[tuple[Any, ...]]) -> None:
    """Apply and compare; then give back all locks, and everything must be evictable."""
    for operation in operations:
        pair.apply(operation)
        pair.check()
    while pair.held:
        pair.apply(("unlock", [], 0, 0, None, 0))
    pair.check()
    assert pair.cache.protected_tokens == 0
    assert pair.cache.evict(10**6) == pair.reference.evict(10**6)
    pair.check()
    assert pair.cache.total_tokens == pair.cache.num_nodes == 0


@settings(max_examples=100)
@given(
    page=st.sampled_from([1, 2, 4]),
    policy=st.sampled_from(sorted(KEYS)),
    unified=st.booleans(),
    operations=st.lists(OPERATION, max_size=40),
)
def test_random_operations(page: int, policy: str, unified: bool, operations: list[tuple[Any, ...]]) -> None:
    drive(Pair(page, policy, unified), operations)


class NewestVictim(RadixCache):
    """A mutant: of the leaves it takes the wrong one."""

    def __init__(self, page: int, eviction: EvictionPolicy, **options: Any) -> None:
        super().__init__(page, build_eviction("mru"), **options)


class LostTokens(RadixCache):
    """A mutant: a lock forgets the tokens that it protects."""

    def lock(self, node: RadixNode) -> int:
        protected = super().lock(node)
        self.protected_tokens -= protected
        return protected


class StaleSplit(RadixCache):
    """A mutant: who holds the lower part of a split node no longer holds the upper one."""

    def _split(self, node: RadixNode, tokens: int) -> RadixNode:
        upper = super()._split(node, tokens)
        upper.locks = 0
        return upper


@pytest.mark.parametrize("mutant", [NewestVictim, LostTokens, StaleSplit])
def test_mutants_are_found(mutant: type[RadixCache]) -> None:
    """The same operations tell a broken cache from a right one."""
    prompts = [[Segment(0, 0, 6), Segment(n, 9, 3)] for n in (1, 2, 1, 2, 1)]
    operations: list[tuple[Any, ...]] = [
        ("insert", prompt, 0, 0, None, n) for n, prompt in enumerate(prompts)
    ]
    operations += [("match", [Segment(0, 0, 3)], 0, 0, None, 1)]
    operations += [("unlock", [], 0, 0, None, 0)] * 3 + [("evict", [], 0, 2, None, 0)]
    drive(Pair(1, "lru", True), operations)
    with pytest.raises((AssertionError, IntegrityError)):
        drive(Pair(1, "lru", True, mutant), operations)
