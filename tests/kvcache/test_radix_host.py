"""The radix tree with host memory behind it: HiCache's rules, and what must hold under random operations."""

from __future__ import annotations

import random
from typing import Any

import pytest

from simserve.errors import IntegrityError
from simserve.kvcache.eviction import build_eviction
from simserve.kvcache.radix import RadixCache
from simserve.kvcache.radix_host import HostedRadixCache
from simserve.kvcache.radix_host_node import HostedNode
from simserve.workload.request import Segment

POLICIES = ["lru", "lfu", "mru", "fifo", "filo", "priority", "slru", "tlru", "s3-fifo", "cost"]


def build(host: int = 1000, write: Any = "through", policy: str = "lru", page: int = 1) -> HostedRadixCache:
    return HostedRadixCache(page, build_eviction(policy), build_eviction(policy), host, write)


def run(stream: int, tokens: int = 10) -> list[Segment]:
    return [Segment(stream, 0, tokens)]


def enter(tree: HostedRadixCache, segments: list[Segment], inserted: int = 0) -> HostedNode:
    node, _ = tree.insert(segments, sum(each.length for each in segments), 0, inserted)
    tree.check_integrity()
    assert isinstance(node, HostedNode)
    return node


def drop(tree: HostedRadixCache, tokens: int) -> int:
    evicted = tree.evict(tokens)
    tree.check_integrity()
    return evicted


def found(tree: HostedRadixCache, segments: list[Segment]) -> tuple[int, int]:
    match = tree.find(segments, sum(each.length for each in segments))
    return match.tokens, match.host_tokens


# -- when a node is copied -----------------------------------------------------------------------------------


def test_through_copies_at_once_and_what_the_device_drops_stays() -> None:
    tree = build()
    node = enter(tree, run(1))
    assert (node.on_device, node.on_host, tree.host_tokens) == (True, True, 10)
    assert drop(tree, 1) == 10
    assert (node.on_device, tree.evictable_tokens, tree.num_nodes) == (False, 0, 1)
    assert found(tree, run(1)) == (0, 10)
    assert tree.match(run(1), 10) == (tree.root, 0)


def test_second_use_copies_at_the_second_insertion_with_all_above() -> None:
    tree = build(write="second_use")
    shared = enter(tree, run(1))
    assert not shared.on_host
    # The request that has entered it does so again as it grows: that counts no hit.
    longer = enter(tree, [*run(1), *run(2)], inserted=10)
    assert (shared.on_host, longer.on_host) == (False, False)
    enter(tree, [*run(1), *run(3)])
    assert (shared.on_host, longer.on_host) == (True, False)
    enter(tree, [*run(1), *run(2)])
    assert longer.on_host
    assert drop(tree, 30) == 30
    assert found(tree, [*run(1), *run(2)]) == (0, 20)
    assert found(tree, [*run(1), *run(3)]) == (0, 10)


def test_back_copies_what_the_device_drops_and_counts_no_hits() -> None:
    tree = build(write="back")
    node = enter(tree, run(1))
    enter(tree, run(1))
    assert (node.hits, node.on_host) == (0, False)
    copied: list[HostedNode] = []
    tree.on_copy = copied.append
    assert drop(tree, 1) == 10
    assert (copied, node.on_host, node.on_device) == ([node], True, False)


def test_a_chain_is_copied_from_the_root_on_as_far_as_there_is_room() -> None:
    tree = build(host=15)
    first = enter(tree, run(1))
    second = enter(tree, [*run(1), *run(2)])
    assert (first.on_host, second.on_host) == (True, False)
    # The host drops only what it alone has: nothing here.
    assert tree.evict_host(10) == 0
    assert drop(tree, 1) == 10
    assert second.parent is None


# -- what the host drops -------------------------------------------------------------------------------------


def test_the_host_drops_its_own_leaves_least_recently_used_first() -> None:
    tree = build(host=30)
    for stream in (1, 2, 3):
        enter(tree, run(stream))
    assert drop(tree, 30) == 30
    tree.find(run(1), 10)
    enter(tree, run(4))
    assert [found(tree, run(stream)) for stream in (1, 2, 3, 4)] == [(0, 10), (0, 0), (0, 10), (10, 0)]


def test_back_drops_second_copies_first_and_spares_those_about_to_be_dropped() -> None:
    tree = build(host=30, write="back")
    nodes = [enter(tree, run(stream)) for stream in (1, 2)]
    drop(tree, 20)
    for node in nodes:
        tree.lock(node)
        tree.load_back(node)
        tree.unlock(node)
    tree.lock(nodes[1])
    assert tree.evict_host(1) == 10  # the device is about to drop the first one
    assert (nodes[0].on_host, nodes[1].on_host) == (True, False)
    assert tree.evict_host(1) == 10
    tree.check_integrity()
    assert all(node.on_device for node in nodes)


def test_back_without_room_drops_a_leaf_with_all_below_it() -> None:
    tree = build(host=10, write="back")
    node = enter(tree, run(1))
    child = enter(tree, [*run(1), *run(2)])
    assert drop(tree, 1) == 10
    assert (child.on_host, child.on_device) == (True, False)
    tree.lock_host(child)
    assert drop(tree, 1) == 0  # somebody reads what lies below
    tree.unlock_host(child)
    assert drop(tree, 1) == 10
    assert (node.parent, tree.num_nodes, tree.host_tokens) == (tree.root, 1, 10)


# -- loads, locks and splits ---------------------------------------------------------------------------------


def test_a_load_puts_a_locked_path_back_and_keeps_the_copies() -> None:
    tree = build()
    enter(tree, run(1))
    last = enter(tree, [*run(1), *run(2)])
    drop(tree, 20)
    tree.lock(last)
    assert (tree.evictable_tokens, tree.protected_tokens) == (0, 0)
    tree.load_back(last)
    assert (tree.evictable_tokens, tree.protected_tokens, tree.host_tokens) == (0, 20, 20)
    assert drop(tree, 20) == 0
    tree.unlock(last)
    tree.check_integrity()
    assert drop(tree, 20) == 20


def test_an_insertion_takes_up_what_the_host_alone_has() -> None:
    tree = build()
    enter(tree, run(1, 20))
    drop(tree, 20)
    node, on_device = tree.insert(run(1, 12), 12)
    tree.check_integrity()
    assert (on_device, tree.evictable_tokens) == (0, 12)
    assert found(tree, run(1, 20)) == (12, 8)
    assert isinstance(node, HostedNode)
    assert node.on_host


def test_a_lock_is_taken_back_once() -> None:
    tree = build()
    node = enter(tree, run(1))
    tree.lock(node)
    tree.unlock(node)
    with pytest.raises(IntegrityError, match="more often"):
        tree.unlock(node)


def test_what_comes_from_behind_follows_the_copies() -> None:
    tree = build()
    assert tree.enter_on_host(run(1, 30), 0, 20) == 20
    tree.check_integrity()
    assert found(tree, run(1, 30)) == (0, 20)
    assert tree.enter_on_host(run(1, 30), 20, 30) == 10
    assert tree.enter_on_host(run(2, 30), 10, 30) == 0, "what came before is gone"
    tree.check_integrity()
    late = build(write="second_use")
    enter(late, run(1))
    assert late.enter_on_host(run(1, 20), 0, 20) == 20, "the device's part gets its copy too"
    late.check_integrity()
    assert found(late, run(1, 20)) == (10, 10)


# -- random operations ---------------------------------------------------------------------------------------


def operate(
    tree: Any, seed: int, entered: list[tuple[list[Segment], int]], inserted: tuple[int, ...] = (0, 0, 6)
) -> list[Any]:
    """Drive a tree through random operations; return what it answered, and note what was entered."""
    draw = random.Random(seed)
    held: list[Any] = []
    seen: list[Any] = []
    for _ in range(120):
        segments = [Segment(draw.randint(1, 2), 0, draw.choice([4, 8])), Segment(draw.randint(10, 15), 0, 9)]
        tokens = draw.randint(1, sum(each.length for each in segments))
        action = draw.choice(["insert", "insert", "match", "lock", "unlock", "evict", "load"])
        if action == "insert":
            seen.append(tree.insert(segments, tokens, draw.choice([0, 0, 3]), draw.choice(inserted))[1])
            entered.append((segments, tokens - tokens % tree.page_size))
        elif action == "match":
            seen.append(tree.match(segments, tokens)[1])
        elif action == "lock":
            held.append(tree.match(segments, tokens)[0])
            seen.append(tree.lock(held[-1]))
        elif action == "unlock" and held:
            seen.append(tree.unlock(held.pop(draw.randrange(len(held)))))
        elif action == "evict":
            seen.append(tree.evict(draw.randint(1, 30)))
        elif action == "load" and isinstance(tree, HostedRadixCache) and tree.host_capacity:
            load(tree, segments, tokens)
        seen.append((tree.evictable_tokens, tree.protected_tokens))
        tree.check_integrity()
    return seen


def load(tree: HostedRadixCache, segments: list[Segment], tokens: int) -> None:
    match = tree.find(segments, tokens)
    tree.lock(match.host_node)
    tree.load_back(match.host_node)
    tree.unlock(match.host_node)
    tree.check_integrity()
    assert tree.find(segments, tokens)[1] == match.tokens + match.host_tokens


@pytest.mark.parametrize("policy", POLICIES)
def test_without_room_on_the_host_it_is_the_plain_tree(policy: str) -> None:
    for seed in range(6):
        page = random.Random(seed).choice([1, 4])
        plain = operate(RadixCache(page, build_eviction(policy)), seed, [])
        assert operate(build(0, "through", policy, page), seed, []) == plain


@pytest.mark.parametrize("write", ["through", "second_use", "back"])
@pytest.mark.parametrize("policy", POLICIES)
def test_with_little_room_nothing_is_held_twice(policy: str, write: str) -> None:
    for seed in range(4):
        draw = random.Random(seed)
        operate(build(draw.choice([24, 60]), write, policy, draw.choice([1, 4])), seed, [])


@pytest.mark.parametrize("write", ["through", "back"])
@pytest.mark.parametrize("policy", POLICIES)
def test_with_room_for_all_nothing_is_lost(policy: str, write: str) -> None:
    for seed in range(4):
        entered: list[tuple[list[Segment], int]] = []
        tree = build(10_000, write, policy, random.Random(seed).choice([1, 4]))
        operate(tree, seed, entered, (0,))
        assert len(entered) > 20
        tree.evict(10_000)
        assert all(sum(tree.find(segments, tokens)[1::2]) == tokens for segments, tokens in entered)
