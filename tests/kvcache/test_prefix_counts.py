"""Which prefixes were hit: the parts add up to what was found, and equal chains are one."""

from __future__ import annotations

import random

import pytest

from simserve.kvcache import prefix_counts
from simserve.kvcache.prefix_counts import PrefixCounts
from simserve.workload.request import Segment

SYSTEM, CHAT = Segment(1, 0, 100), Segment(2, 0, 50)


def test_a_prefix_that_is_hit_alone_and_with_more_behind_it() -> None:
    counts = PrefixCounts()
    counts.count((SYSTEM, Segment(7, 0, 30)), 100)
    counts.count((SYSTEM, CHAT), 140)
    counts.count((SYSTEM, CHAT), 150)
    first, second = counts.largest(5)
    assert (first.segments, first.tokens, first.requests, first.saved_tokens) == ((SYSTEM,), 100, 3, 300)
    assert second.segments == (SYSTEM, CHAT)
    assert (second.prefix_tokens, second.tokens, second.requests, second.saved_tokens) == (150, 50, 2, 90)


def test_runs_that_all_go_on_are_one() -> None:
    counts = PrefixCounts()
    counts.count((SYSTEM, CHAT), 150)
    counts.count((SYSTEM, CHAT), 150)
    (only,) = counts.largest(5)
    assert (only.segments, only.tokens, only.saved_tokens) == ((SYSTEM, CHAT), 150, 300)


def test_the_same_tokens_behind_another_prefix_are_another_run() -> None:
    counts = PrefixCounts()
    counts.count((SYSTEM, CHAT), 120)
    counts.count((Segment(1, 0, 60), CHAT), 80)
    assert [each.saved_tokens for each in counts.largest(5)] == [160, 20, 20]


def test_a_hit_shorter_than_the_first_segment() -> None:
    counts = PrefixCounts()
    counts.count((SYSTEM, CHAT), 64)
    counts.count((SYSTEM, CHAT), 96)
    (only,) = counts.largest(5)
    assert (only.segments, only.saved_tokens) == ((Segment(1, 0, 96),), 160)


@pytest.mark.parametrize("most", [1 << 16, 64])
def test_saved_tokens_add_up_to_the_hits(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_counts, "MOST_NODES", most)
    draw, counts, total = random.Random(0), PrefixCounts(), 0
    for number in range(2000):
        prompt = [Segment(draw.randrange(3), 0, 100)]
        prompt += [Segment(10 + draw.randrange(6), 0, 40) for _ in range(draw.randrange(4))]
        prompt.append(Segment(1000 + number, 0, 20))
        cached = draw.randint(1, sum(segment.length for segment in prompt) - 1)
        counts.count(prompt, cached)
        total += cached
    assert sum(each.saved_tokens for each in counts.largest(10**6)) + counts.forgotten_tokens == total
    assert len(counts.nodes) <= most
    best = counts.largest(3)
    assert {each.segments[0].stream for each in best} == {0, 1, 2}, "what is hit often is never forgotten"
    assert all(each.tokens == 100 for each in best)
