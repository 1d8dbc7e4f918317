"""Tiers behind the GPU: who has what, what is moved, and when fetching pays."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.errors import InputError, IntegrityError
from simserve.kvcache.prefix_hits import measure_radix_hits, measure_tiered_hits
from simserve.kvcache.tier import WRITE_MODES, TierSpec
from simserve.kvcache.tier_moves import Move
from simserve.kvcache.tiers import Stretch, TierStack
from simserve.workload.request import Request, Segment

# A chunk is ten bytes: ten tokens of a byte each.
CHUNK = 10


def build_stack(*tiers: tuple[str, int, str], **figures: Any) -> TierStack:
    """Tiers by (name, chunks, write mode)."""
    specs = [
        TierSpec(name, chunks * CHUNK, figures.get(name, 10.0), figures.get("latency_s", 0.0), mode)  # type: ignore[arg-type]
        for name, chunks, mode in tiers
    ]
    return TierStack(specs, 1, CHUNK)


def way(move: Move) -> tuple[str, str, int]:
    return move.source, move.target, move.size_bytes


def ways(moves: list[Move]) -> list[tuple[str, str, int]]:
    return [way(move) for move in moves]


def held(stack: TierStack) -> list[list[int]]:
    return [sorted(tier.chunks) for tier in stack.tiers]


def test_write_through_fills_all_tiers_at_once() -> None:
    stack = build_stack(("host", 4, "through"), ("nvme", 9, "through"))
    assert ways(stack.publish([1, 2, 3])) == [("gpu", "host", 30), ("host", "nvme", 30)]
    assert held(stack) == [[1, 2, 3], [1, 2, 3]]
    assert stack.publish([1, 2, 3]) == []
    # The tail of the older prefix goes first.
    stack.publish([1, 2, 4, 5])
    assert held(stack) == [[1, 2, 4, 5], [1, 2, 3, 4, 5]]
    assert stack.tiers[0].counts.dropped_bytes == 10
    assert stack.drop([5]) == []


def test_write_back_waits_for_the_tier_above() -> None:
    stack = build_stack(("host", 2, "back"), ("nvme", 9, "back"))
    assert stack.publish([1, 2, 3]) == []
    assert ways(stack.drop([2, 3])) == [("gpu", "host", 20)]
    assert ways(stack.drop([1])) == [("gpu", "host", 10), ("host", "nvme", 10)]
    assert held(stack) == [[1, 2], [3]]
    assert stack.drop([1]) == []


def test_second_use_spares_what_is_used_once() -> None:
    stack = build_stack(("host", 3, "second_use"))
    assert stack.publish([1, 2]) == []
    assert ways(stack.publish([1, 3])) == [("gpu", "host", 10)]
    assert held(stack) == [[1]]
    # What was used once is forgotten after as many others as the tier has room for.
    stack.publish([4, 5, 6])
    assert stack.publish([2]) == []
    assert ways(stack.publish([4])) == [("gpu", "host", 10)]


def test_find_stops_where_no_tier_has_the_next_chunk() -> None:
    stack = build_stack(("host", 2, "through"), ("nvme", 9, "through"))
    stack.publish([1, 2, 3, 4])
    stack.publish([1, 2])
    assert held(stack)[0] == [1, 2]
    assert stack.find([1, 2, 3, 7, 4]) == [Stretch(0, 0, 2), Stretch(1, 2, 3)]
    assert stack.find([1, 2, 3, 4], skip=1) == [Stretch(0, 1, 2), Stretch(1, 2, 4)]
    assert stack.find([8, 1]) == []


def test_fetch_counts_and_raises() -> None:
    stack = build_stack(("host", 2, "through"), ("nvme", 9, "through"))
    stack.publish([1, 2, 3, 4])
    keys = [1, 2, 3, 4, 5]
    found = stack.find(keys)
    assert found == [Stretch(0, 0, 2), Stretch(1, 2, 4)]
    assert ways(stack.fetch(keys, found, found)) == [("host", "gpu", 20), ("nvme", "gpu", 20)]
    host, nvme = (tier.counts for tier in stack.tiers)
    assert (host.asked_chunks, host.hit_chunks, host.read_bytes, host.hit_rate) == (5, 2, 20, 0.4)
    assert (nvme.asked_chunks, nvme.hit_chunks, nvme.read_bytes) == (3, 2, 20)
    # On their way up the chunks of the NVMe passed through the host's memory.
    assert held(stack)[0] == [3, 4]
    assert TierStack([], 1).find([1]) == []


def test_prefetch_brings_what_waits_below_into_the_first_tier() -> None:
    stack = build_stack(("host", 3, "through"), ("remote", 9, "through"))
    stack.publish([1, 2, 3])
    stack.publish([7, 8, 9])
    assert ways(stack.prefetch([1, 2, 3])) == [("remote", "host", 30)]
    assert held(stack)[0] == [1, 2, 3]
    assert stack.prefetch([1, 2, 3]) == []
    assert stack.find([1, 2, 3]) == [Stretch(0, 0, 3)]
    stack.check_integrity()


def compute_s(history: int, tokens: int) -> float:
    """A prefill at 20 tokens a second, and attention over what stands before."""
    return tokens / 20 + 0.001 * ((history + tokens) ** 2 - history**2)


class Busy:
    """Paths that are taken for a while, and writes that land then."""

    def __init__(self, tiers_s: tuple[float, ...] = (), writes_s: dict[int, float] | None = None) -> None:
        self._tiers_s = tiers_s
        self._writes_s = writes_s or {}

    def path_wait_s(self, tier: int) -> float:
        return self._tiers_s[tier] if tier < len(self._tiers_s) else 0.0

    def landing_wait_s(self, ticket: int) -> float:
        return self._writes_s.get(ticket, 0.0)


@pytest.mark.parametrize(
    ("rates", "busy_s", "ends"),
    [
        ({"host": 1000.0, "nvme": 1000.0}, (), 4),  # both are faster than computing
        ({"host": 1000.0, "nvme": 8.0}, (), 2),  # the slow one is not worth its wait
        ({"host": 5.0, "nvme": 5.0}, (), 0),
        ({"host": 1000.0, "nvme": 1000.0}, (60.0, 0.0), 0),  # the link is taken
        ({"host": 1000.0, "nvme": 1000.0}, (0.0, 60.0), 2),
        ({"host": 1000.0, "nvme": 1000.0, "latency_s": 1.4}, (), 4),
        ({"host": 1000.0, "nvme": 1000.0, "latency_s": 9.0}, (), 0),
    ],
)
def test_fetch_or_recompute(rates: dict[str, float], busy_s: tuple[float, ...], ends: int) -> None:
    stack = build_stack(("host", 2, "through"), ("nvme", 9, "through"), **rates)
    stack.publish([1, 2, 3, 4])
    found = stack.find([1, 2, 3, 4])
    traffic = Busy(busy_s)
    keys = [1, 2, 3, 4]
    chosen = stack.choose_fetch(found, 45, compute_s, keys, traffic)
    assert (chosen[-1].end if chosen else 0) == ends

    # No other number of chunks, cut anywhere, takes less time.
    def total(count: int) -> float:
        part = [s._replace(end=min(s.end, count)) for s in found if s.begin < count]
        return stack.estimate_fetch_s(part, keys, traffic) + compute_s(count * CHUNK, 45 - count * CHUNK)

    assert total(ends) == min(total(count) for count in range(5))


def test_a_chunk_under_way_counts_with_the_time_until_it_lands() -> None:
    stack = build_stack(("host", 9, "through"), host=1000.0)
    (write,) = stack.publish([1, 2])
    found, keys = stack.find([1, 2]), [1, 2]
    idle_s = stack.estimate_fetch_s(found)
    assert stack.estimate_fetch_s(found, keys, Busy((), {write.ticket: 1.5})) == 1.5 + idle_s
    assert stack.choose_fetch(found, 25, compute_s, keys, Busy((), {write.ticket: 0.1})) == found
    assert stack.choose_fetch(found, 25, compute_s, keys, Busy((), {write.ticket: 9.0})) == []


def test_what_comes_in_by_layers_overlaps_with_the_computing() -> None:
    stack = build_stack(("host", 9, "through"), host=12.0)
    stack.publish([1, 2])
    found, keys = stack.find([1, 2]), [1, 2]
    # 20 tokens at 12 a second take longer than they are computed in, beside the other 40.
    alone_s, rest_s = compute_s(0, 60), compute_s(20, 40)
    fetch_s = stack.estimate_fetch_s(found)
    assert fetch_s + rest_s > alone_s > max(fetch_s / 4 + rest_s, fetch_s + rest_s / 4)
    assert stack.choose_fetch(found, 60, compute_s, keys) == []
    assert stack.choose_fetch(found, 60, compute_s, keys, layers=4) == found
    assert stack.choose_fetch(found, 60, compute_s, keys, Busy((9.0,)), layers=4) == []


def test_moves_name_those_that_brought_what_they_read() -> None:
    stack = build_stack(("host", 2, "through"), ("nvme", 9, "back"))
    (first,) = stack.publish([1, 2])
    assert first.after == ()
    second, back = stack.publish([3])
    assert ways([second, back]) == [("gpu", "host", 10), ("host", "nvme", 10)]
    assert (second.after, back.after) == ((), (first.ticket,))
    # 2 was dropped; it is read where the write-back has brought it, and passes through the host.
    found = stack.find([1, 2])
    assert found == [Stretch(0, 0, 1), Stretch(1, 1, 2)]
    near, far, *_ = stack.fetch([1, 2], found, found)
    assert ways([near, far]) == [("host", "gpu", 10), ("nvme", "gpu", 10)]
    assert (near.after, far.after) == ((first.ticket,), (back.ticket,))
    (again,) = stack.fetch([1, 2], stack.find([1, 2], 1), stack.find([1, 2], 1), 1)
    assert again.after == (far.ticket,)
    assert len({move.ticket for move in (first, second, back, near, far, again)}) == 6


def test_bad_tiers_are_refused() -> None:
    with pytest.raises(InputError, match="through, back, second_use"):
        build_stack(("host", 1, "never"))
    with pytest.raises(InputError, match="rates above 0"):
        build_stack(("host", 1, "back"), host=0.0)


@settings(max_examples=80)
@given(
    tiers=st.lists(st.tuples(st.integers(0, 6), st.sampled_from(WRITE_MODES)), min_size=1, max_size=3),
    moves=st.lists(
        st.tuples(
            st.sampled_from(["publish", "drop", "fetch", "prefetch"]),
            st.integers(0, 3),
            st.integers(1, 5),
            st.integers(0, 2),
        ),
        max_size=40,
    ),
)
def test_chunks_and_bytes_add_up(
    tiers: list[tuple[int, str]], moves: list[tuple[str, int, int, int]]
) -> None:
    """Whatever comes in whatever order: every byte written or read is in a move."""
    stack = build_stack(*[(f"tier{n}", chunks, mode) for n, (chunks, mode) in enumerate(tiers)])
    for verb, prefix, length, skip in moves:
        keys = [10 * prefix + depth for depth in range(length)]
        before = [(tier.counts.read_bytes, tier.counts.written_bytes) for tier in stack.tiers]
        if verb == "fetch":
            found = stack.find(keys, skip)
            assert [s.begin for s in found[1:]] == [s.end for s in found[:-1]]
            happened = stack.fetch(keys, found, found, skip)
        else:
            happened = getattr(stack, verb)(keys)
        for tier, (read, written) in zip(stack.tiers, before, strict=True):
            name, counts = tier.spec.name, tier.counts
            if verb in ("publish", "drop"):
                assert (
                    sum(m.size_bytes for m in happened if m.target == name) == counts.written_bytes - written
                )
                assert counts.read_bytes == read
            else:  # what is read goes up
                up = [m.size_bytes for m in happened if m.source == name and m.target in ("gpu", "tier0")]
                assert sum(up) == counts.read_bytes - read
        assert all(move.size_bytes > 0 and move.size_bytes % CHUNK == 0 for move in happened)
        stack.check_integrity()
    stack.tiers[0].counts.written_bytes += 1
    with pytest.raises(IntegrityError, match="add up"):
        stack.check_integrity()


def build_requests() -> list[Request]:
    """Three sessions that take turns: each prompt is the one before and 50 tokens more."""
    requests = []
    for turn in range(1, 9):
        for session in range(3):
            number = len(requests)
            prompt = Segment(session, 0, 100 * turn)
            requests.append(Request(number, 0, (prompt,), prompt.length, 5, 5, 1000 + number, prompt.length))
    return requests


@pytest.mark.parametrize("mode", WRITE_MODES)
def test_tiers_find_what_the_gpu_had_to_drop(mode: str) -> None:
    requests = build_requests()
    alone = measure_radix_hits(requests, 1000, 10)
    stack = build_stack(("host", 300, mode))
    behind = measure_tiered_hits(requests, 1000, stack, 10)
    stack.check_integrity()
    counts = stack.tiers[0].counts
    assert counts.read_bytes == counts.hit_chunks * CHUNK > 0
    unlimited = measure_radix_hits(requests, 10**6, 10)
    if mode == "second_use":
        assert alone.hit_tokens < behind.hit_tokens <= unlimited.hit_tokens
    else:
        assert alone.hit_tokens < behind.hit_tokens == unlimited.hit_tokens


def test_write_back_moves_no_more_than_write_through() -> None:
    written = {}
    for mode in ("through", "back"):
        stack = build_stack(("host", 300, mode))
        measure_tiered_hits(build_requests(), 1000, stack, 10)
        written[mode] = stack.tiers[0].counts.written_bytes
    assert 0 < written["back"] < written["through"]
