"""What each eviction policy drops first, and that a policy of one's own is a key."""

from __future__ import annotations

import random
from typing import Any

import pytest

from simserve import registry
from simserve.errors import InputError, IntegrityError, UnknownNameError
from simserve.kvcache.eviction import EvictionPolicy, build_eviction
from simserve.kvcache.radix import RadixCache
from simserve.kvcache.radix_node import RadixNode
from simserve.workload.request import Segment


class Shortest(EvictionPolicy):
    """A policy of one's own: the shortest leaf goes first."""

    def key(self, node: RadixNode) -> int:
        return node.length


class NoPolicy:
    """Has nothing that a policy needs."""


def build_cache(policy: str | EvictionPolicy, **options: Any) -> tuple[RadixCache, list[int]]:
    """A cache of single tokens per stream, and the streams in the order in which they go."""
    gone: list[int] = []
    cache = RadixCache(1, build_eviction(policy, options) if isinstance(policy, str) else policy)
    cache.on_evict = lambda node: gone.append(node.key[0].stream)
    return cache, gone


def use(cache: RadixCache, stream: int, tokens: int = 10, priority: int = 0) -> None:
    cache.insert([Segment(stream, 0, tokens)], tokens, priority)


@pytest.mark.parametrize(
    ("policy", "order"),
    [
        # Created 1 2 3 4; then 1 used twice and 2 once, 1 first; 3 has the lowest priority.
        ("lru", [3, 4, 1, 2]),
        ("mru", [2, 1, 4, 3]),
        ("lfu", [3, 4, 2, 1]),
        ("fifo", [1, 2, 3, 4]),
        ("filo", [4, 3, 2, 1]),
        ("priority", [3, 4, 1, 2]),
        ("slru", [3, 4, 1, 2]),
        ("ttl", [3, 4, 1, 2]),
        ("cost", [3, 4, 2, 1]),
        ("s3-fifo", [2, 3, 4, 1]),
    ],
)
def test_order(policy: str, order: list[int]) -> None:
    cache, gone = build_cache(policy)
    for stream in (1, 2, 3, 4):
        use(cache, stream, priority=-1 if stream == 3 else 0)
    for stream in (1, 1, 2):
        use(cache, stream)
    assert cache.evict(10**6) == 40
    assert gone == order


def test_ttl_drops_what_nobody_used_in_time() -> None:
    cache, gone = build_cache("ttl", ttl_s=2.0)
    second = 10**9
    for at, stream in ((0, 1), (second, 2), (second, 3), (second + 5, 1)):
        cache.expire(at)
        use(cache, stream)
    assert cache.expire(3 * second - 1) == 0
    assert (cache.expire(3 * second), gone) == (20, [2, 3])
    assert (cache.expire(4 * second), gone) == (10, [2, 3, 1])
    assert cache.expire(100 * second) == 0
    cache.check_integrity()


def test_ttl_spares_what_is_locked() -> None:
    cache, gone = build_cache("ttl", ttl_s=1.0)
    cache.expire(0)
    node, _ = cache.insert([Segment(1, 0, 5)], 5)
    cache.lock(node)
    assert cache.expire(10**10) == 0
    cache.unlock(node)
    assert cache.expire(10**10 + 1) == 5
    assert gone == [1]


def test_only_ttl_expires() -> None:
    for name in registry.names("eviction"):
        cache, _ = build_cache(name)
        cache.expire(0)
        use(cache, 1)
        assert cache.expire(10**15) == (10 if name == "ttl" else 0)


def test_cost_keeps_what_attention_makes_dear() -> None:
    cache, gone = build_cache("cost", linear_context_tokens=100.0)
    # The same prefix, then a leaf at depth 1000; and a younger leaf at depth 0: each ten tokens, one hit.
    cache.insert([Segment(1, 0, 1000), Segment(2, 0, 10)], 1010)
    cache.insert([Segment(1, 0, 1000)], 1000)
    use(cache, 3)
    assert cache.evict(1) == 10
    assert gone == [3]


def test_cost_ages() -> None:
    cache, gone = build_cache("cost")
    for _ in range(3):
        use(cache, 1)
    for stream in range(2, 10):
        use(cache, stream)
        use(cache, 10 * stream)
        cache.evict(10)
    # Three hits long ago are worth what three dropped newcomers were.
    assert 1 in gone


def test_s3_fifo_knows_who_was_dropped_too_early() -> None:
    cache, gone = build_cache("s3-fifo")
    for stream in (1, 2):
        for _ in range(3):
            use(cache, stream)
    for stream in (3, 4):
        use(cache, stream)
    cache.evict(10)
    assert gone == [3]
    use(cache, 3)  # back from the ghosts: into the main queue, behind 1 and 2
    use(cache, 5)
    cache.evict(10)
    cache.evict(10)
    assert gone == [3, 4, 5]


@pytest.mark.parametrize("policy", registry.names("eviction"))
def test_waiting_leaves_take_no_more_room_than_nodes(policy: str) -> None:
    """However often leaves are used, locked and unlocked: what the policy keeps stays in proportion."""
    rng = random.Random(1)
    cache, _ = build_cache(policy)
    for _ in range(5000):
        stream = rng.randrange(20)
        node, _ = cache.insert([Segment(stream, 0, 5)], 5)
        if rng.random() < 0.5:
            cache.lock(node)
            cache.unlock(node)
    cache.check_integrity()
    assert len(cache._eviction._heap) <= 256 + 1
    assert cache.evict(10**6) == 100


def test_policy_of_ones_own() -> None:
    cache, gone = build_cache(f"{__name__}:Shortest")
    for stream, tokens in ((1, 7), (2, 3), (3, 5)):
        use(cache, stream, tokens)
    use(cache, 2, 9)  # grows below the node of 3 tokens
    cache.evict(10**6)
    assert gone == [3, 2, 2, 1]


def test_equal_keys_fall_back_to_the_last_use() -> None:
    cache, gone = build_cache(Shortest())
    for stream in (1, 2, 3, 1):
        use(cache, stream)
    cache.evict(10**6)
    assert gone == [2, 3, 1]


def test_bad_policies_and_options_are_bad_input() -> None:
    with pytest.raises(UnknownNameError, match="lru"):
        build_eviction("lrv")
    with pytest.raises(InputError, match="expected a class with key"):
        build_eviction(f"{__name__}:NoPolicy")
    for name, options in (
        ("lru", {"threshold": 2}),
        ("ttl", {"ttl_s": 0}),
        ("ttl", {"ttl_s": "long"}),
        ("slru", {"threshold": "2"}),
        ("cost", {"linear_context_tokens": -1}),
        ("s3-fifo", {"small_share": 1.5}),
    ):
        with pytest.raises(InputError, match=f"eviction policy '{name}'"):
            build_eviction(name, options)


def test_unlocking_what_is_not_locked_is_an_error() -> None:
    cache, _ = build_cache("lru")
    node, _ = cache.insert([Segment(1, 0, 5)], 5)
    with pytest.raises(IntegrityError, match="more often"):
        cache.unlock(node)


def test_disabled_cache_keeps_nothing() -> None:
    cache = RadixCache(16, disable=True)
    assert cache.insert([Segment(1, 0, 64)], 64) == (cache.root, 0)
    assert cache.match([Segment(1, 0, 64)], 64) == (cache.root, 0)
    assert cache.total_tokens == 0


def test_peek_sees_what_match_finds_and_changes_nothing() -> None:
    cache, gone = build_cache("lru")
    for namespace in (None, "lora"):
        cache.insert([Segment(1, 0, 10), Segment(2, 0, 6)], 16, namespace=namespace)
    use(cache, 3)
    prompt = [Segment(1, 0, 10), Segment(2, 0, 3), Segment(4, 0, 9)]
    nodes = cache.num_nodes
    assert cache.peek(prompt, 22) == cache.peek(prompt, 22, "lora") == 13
    assert cache.peek(prompt, 4) == 4
    assert cache.peek(prompt, 22, "other") == 0
    assert cache.num_nodes == nodes
    assert cache.match(prompt, 22)[1] == 13
    cache.reset()
    assert (cache.total_tokens, cache.peek(prompt, 22), cache.evict(1), gone) == (0, 0, 0, [])
