"""Routers: balance, determinism, affinity, prefix matching, and refused options."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simserve import registry
from simserve.cluster.prefix_tree import PrefixTree
from simserve.cluster.routers import InstanceView, Router
from simserve.errors import InputError, UnknownNameError
from simserve.workload.request import Request, Segment

POLICIES = (
    "round_robin",
    "random",
    "least_outstanding",
    "power_of_two",
    "session_affinity",
    "prefix_aware",
)


@dataclass
class Instance:
    """An instance with a load and a list of cached prefixes."""

    outstanding: int = 0
    free_blocks: int = 100
    cached: dict[int, int] = field(default_factory=dict)

    def cached_prefix_tokens(self, request: Request) -> int:
        return self.cached.get(request.id, 0)


def _request(number: int, session: str = "", prompt: Sequence[Segment] = ()) -> Request:
    tokens = sum(segment.length for segment in prompt) or 100
    return Request(
        id=number,
        arrival_ns=0,
        prompt=tuple(prompt),
        prompt_tokens=tokens,
        output_tokens=1,
        max_tokens=1,
        output_stream=1_000_000 + number,
        shared_tokens=tokens if prompt else 0,
        session=session,
    )


def _router(policy: str, instances: Sequence[InstanceView] | int, seed: int = 0, **options: Any) -> Router:
    views = [Instance() for _ in range(instances)] if isinstance(instances, int) else instances
    router = registry.lookup("router", policy)(views, seed, **options)
    assert isinstance(router, Router)
    return router


def _route(router: Router, requests: Sequence[Request]) -> list[int]:
    """Route all requests, none of which ends."""
    indices = []
    for request in requests:
        indices.append(router.choose(request, 0))
        router.sent(request, indices[-1])
    return indices


@given(
    policy=st.sampled_from(POLICIES),
    instances=st.integers(1, 9),
    seed=st.integers(0, 2**31),
    ends=st.lists(st.booleans(), max_size=40),
)
def test_every_policy_counts_what_is_outstanding(
    policy: str, instances: int, seed: int, ends: list[bool]
) -> None:
    router = _router(policy, instances, seed)
    outstanding: list[int] = []
    for number, end in enumerate(ends):
        request = _request(number, session=f"s{number % 3}")
        index = router.choose(request, number)
        assert 0 <= index < instances
        router.sent(request, index)
        outstanding.append(index)
        if end:
            router.ended(outstanding.pop(0))
        assert router.loads == [outstanding.count(n) for n in range(instances)]


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_seed_gives_the_same_choices(policy: str) -> None:
    requests = [_request(n, session=f"s{n % 7}", prompt=[Segment(n % 5, 0, 64)]) for n in range(100)]
    assert _route(_router(policy, 8, 3), requests) == _route(_router(policy, 8, 3), requests)


@pytest.mark.parametrize("policy", ["random", "power_of_two"])
def test_another_seed_gives_other_choices(policy: str) -> None:
    requests = [_request(n) for n in range(100)]
    assert _route(_router(policy, 8, 1), requests) != _route(_router(policy, 8, 2), requests)


def test_random_draws_depend_on_the_request_and_not_on_the_order() -> None:
    requests = [_request(n) for n in range(50)]
    forward = _route(_router("random", 8), requests)
    backward = _route(_router("random", 8), requests[::-1])
    assert forward == backward[::-1]


def test_round_robin_takes_turns() -> None:
    assert _route(_router("round_robin", 3), [_request(n) for n in range(7)]) == [0, 1, 2, 0, 1, 2, 0]


def test_random_is_uniform() -> None:
    counts = Counter(_route(_router("random", 8), [_request(n) for n in range(8000)]))
    # 1000 each; the standard deviation of a count is sqrt(8000 * 1/8 * 7/8) = 29.6.
    assert all(abs(counts[n] - 1000) < 5 * 29.6 for n in range(8))


def test_least_outstanding_takes_the_lowest_index_among_equals() -> None:
    router = _router("least_outstanding", [Instance(2), Instance(1), Instance(1)])
    assert _route(router, [_request(n) for n in range(4)]) == [1, 2, 0, 1]
    router.ended(2)
    assert router.choose(_request(9), 0) == 2


@given(st.lists(st.integers(0, 50), min_size=2, max_size=64))
def test_least_outstanding_is_a_minimum(loads: list[int]) -> None:
    router = _router("least_outstanding", [Instance(load) for load in loads])
    index = router.choose(_request(0), 0)
    assert loads[index] == min(loads)
    assert index == loads.index(min(loads))


def test_power_of_two_never_takes_the_most_loaded_of_two() -> None:
    router = _router("power_of_two", [Instance(5), Instance(0)])
    assert {router.choose(_request(n), 0) for n in range(50)} == {1}


def test_power_of_two_is_far_better_balanced_than_random() -> None:
    requests = [_request(n) for n in range(16_000)]
    spread = {}
    for policy in ("random", "power_of_two"):
        router = _router(policy, 16)
        _route(router, requests)
        spread[policy] = max(router.loads) - min(router.loads)
    # Known gaps above the mean: one choice sqrt(2 * 1000 * ln 16) = 74, two ln ln 16 / ln 2 = 1.5.
    assert spread["power_of_two"] <= 8 < 60 < spread["random"]


def test_sessions_stay_where_they_began() -> None:
    router = _router("session_affinity", 4)
    homes: dict[str, int] = {}
    for number in range(200):
        session = f"s{number * 7 % 23}"
        (index,) = _route(router, [_request(number, session=session)])
        assert homes.setdefault(session, index) == index
    assert len(set(homes.values())) == 4


def test_requests_without_a_session_go_to_the_fallback() -> None:
    router = _router("session_affinity", 3, fallback="round_robin")
    assert _route(router, [_request(n) for n in range(5)]) == [0, 1, 2, 0, 1]


def test_a_session_that_was_rejected_has_no_home_yet() -> None:
    router = _router("session_affinity", [Instance(0), Instance(5)])
    assert router.choose(_request(0, session="a"), 0) == 0
    for number in range(1, 10):
        router.sent(_request(number), 0)
    assert router.choose(_request(10, session="a"), 0) == 1


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), max_size=200), st.lists(st.integers(0, 3)))
def test_least_outstanding_finds_the_first_of_the_least_loaded(
    changes: list[tuple[bool, int]], loads: list[int]
) -> None:
    router = _router("least_outstanding", [Instance(load) for load in (*loads, 0, 1)])
    for number, (sends, index) in enumerate(changes):
        index %= len(router.loads)
        if sends:
            router.sent(_request(number), index)
        elif router.loads[index]:
            router.ended(index)
        assert router.choose(_request(number), 0) == router.loads.index(min(router.loads))


PREFIX = [Segment(7, 0, 80)]


def test_prefix_aware_takes_the_longest_cached_prefix() -> None:
    instances = [Instance(0), Instance(3, cached={1: 64}), Instance(2, cached={1: 80}), Instance(1)]
    router = _router("prefix_aware", instances)
    assert router.choose(_request(1, prompt=[*PREFIX, Segment(8, 0, 20)]), 0) == 2


def test_prefix_aware_takes_the_less_loaded_of_equal_matches() -> None:
    instances = [Instance(0), Instance(3, cached={1: 80}), Instance(2, cached={1: 80})]
    assert _router("prefix_aware", instances).choose(_request(1, prompt=PREFIX), 0) == 2


@pytest.mark.parametrize(("cached", "expected"), [(50, 0), (51, 1)])
def test_a_match_must_exceed_the_threshold(cached: int, expected: int) -> None:
    instances = [Instance(0), Instance(3, cached={1: cached})]
    router = _router("prefix_aware", instances, threshold=0.5)
    assert router.choose(_request(1, prompt=[*PREFIX, Segment(8, 0, 20)]), 0) == expected


@pytest.mark.parametrize(
    ("loads", "expected"),
    [((0, 32), 1), ((0, 33), 0), ((400, 440), 1), ((400, 441), 0)],
    ids=["within abs", "above abs", "within rel", "above both"],
)
def test_load_out_of_balance_overrides_the_match(loads: tuple[int, int], expected: int) -> None:
    instances = [Instance(loads[0]), Instance(loads[1], cached={1: 80})]
    assert _router("prefix_aware", instances).choose(_request(1, prompt=PREFIX), 0) == expected


def test_private_prompts_go_to_the_fallback_of_prefix_aware() -> None:
    router = _router("prefix_aware", 3, fallback="round_robin")
    assert _route(router, [_request(n) for n in range(4)]) == [0, 1, 2, 0]


def test_the_tree_keeps_groups_together() -> None:
    router = _router("prefix_aware", 4, view="tree")
    requests = [_request(n, prompt=[Segment(n % 4, 0, 512), Segment(1000 + n, 0, 64)]) for n in range(64)]
    indices = _route(router, requests)
    assert all(index == indices[n % 4] for n, index in enumerate(indices))
    assert sorted(indices[:4]) == [0, 1, 2, 3]


@pytest.mark.parametrize("policy", POLICIES)
def test_unknown_options_are_refused(policy: str) -> None:
    with pytest.raises(UnknownNameError, match="fallbak"):
        _router(policy, 2, fallbak="random")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": "high"}, "router option threshold: expected a number"),
        ({"balance_abs_threshold": -1}, "router option balance_abs_threshold"),
        ({"view": "tee"}, "did you mean 'tree'"),
        ({"fallback": "rondom"}, "did you mean 'random'"),
    ],
)
def test_wrong_option_values_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _router("prefix_aware", 2, **options)


def test_a_router_needs_instances() -> None:
    with pytest.raises(InputError, match="at least one instance"):
        _router("random", 0)


def test_all_policies_are_registered_and_described() -> None:
    described = registry.describe("router")
    assert set(POLICIES) <= set(described)
    assert all(described[policy] for policy in POLICIES)


# -- the tree against a plain list of prompts ----------------------------------------------------------

segments = st.builds(Segment, st.integers(0, 2), st.integers(0, 3), st.integers(1, 6))
prompts = st.lists(segments, min_size=1, max_size=4)


def _tokens(prompt: Sequence[Segment]) -> list[tuple[int, int]]:
    return [(s.stream, s.start + n) for s in prompt for n in range(s.length)]


@given(st.lists(st.tuples(prompts, st.integers(0, 2)), max_size=20), prompts)
def test_the_tree_finds_the_longest_prefix_and_who_has_it(
    inserted: list[tuple[list[Segment], int]], asked: list[Segment]
) -> None:
    tree = PrefixTree(3, max_tokens=10**9)
    stored: list[tuple[list[tuple[int, int]], int]] = []
    for prompt, instance in inserted:
        tree.insert(prompt, instance)
        stored.append((_tokens(prompt), instance))
    wanted = _tokens(asked)

    def common(tokens: list[tuple[int, int]]) -> int:
        return next((n for n, pair in enumerate(zip(wanted, tokens, strict=False)) if pair[0] != pair[1]),
                    min(len(wanted), len(tokens)))  # fmt: skip

    longest = max((common(tokens) for tokens, _ in stored), default=0)
    holders = sorted({n for tokens, n in stored if longest and common(tokens) == longest})
    assert tree.match(asked) == (longest, holders)
    for instance in range(3):
        prefixes = {tuple(t[:n]) for t, i in stored if i == instance for n in range(1, len(t) + 1)}
        assert tree.sizes[instance] == len(prefixes)


@given(st.lists(st.tuples(prompts, st.integers(0, 2)), max_size=40), st.integers(1, 30))
def test_the_tree_keeps_its_bound(inserted: list[tuple[list[Segment], int]], bound: int) -> None:
    tree = PrefixTree(3, max_tokens=bound)
    for prompt, instance in inserted:
        tree.insert(prompt, instance)
        assert max(tree.sizes) <= bound


def test_the_tree_forgets_the_least_recently_used_leaf_first() -> None:
    tree = PrefixTree(1, max_tokens=30)
    shared, a, b, c = (Segment(n, 0, 10) for n in range(4))
    tree.insert([shared, a], 0)
    tree.insert([shared, b], 0)
    tree.insert([shared, a], 0)
    tree.insert([shared, c], 0)  # 40 tokens: b goes first, the shared run stays
    assert tree.match([shared, b]) == (10, [0])
    assert tree.match([shared, c]) == (20, [0])
    assert tree.sizes == [20]


def test_eviction_of_one_instance_leaves_the_others() -> None:
    tree = PrefixTree(2, max_tokens=10)
    tree.insert([Segment(1, 0, 10)], 1)
    tree.insert([Segment(1, 0, 10)], 0)
    tree.insert([Segment(2, 0, 10)], 0)
    assert tree.match([Segment(1, 0, 10)]) == (10, [1])
    assert tree.match([Segment(2, 0, 10)]) == (10, [0])
