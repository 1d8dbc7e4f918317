"""The tight bound on shared tokens equals a count over token lists."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from simserve.conformance.golden import GoldenRequest
from simserve.conformance.shared_tokens import common_prefix, count_shared_tokens
from simserve.workload.request import Segment

segments = st.builds(Segment, st.integers(0, 2), st.integers(0, 4), st.integers(1, 5))
prompts = st.lists(segments, min_size=1, max_size=4).map(tuple)


def _tokens(sequence: tuple[Segment, ...]) -> list[tuple[int, int]]:
    return [(s.stream, s.start + n) for s in sequence for n in range(s.length)]


def _count_common(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> int:
    count = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        count += 1
    return count


@given(prompts, prompts)
def test_common_prefix_equals_the_count_over_tokens(a: tuple[Segment, ...], b: tuple[Segment, ...]) -> None:
    assert common_prefix(a, b) == common_prefix(b, a) == _count_common(_tokens(a), _tokens(b))


@given(st.lists(st.tuples(prompts, st.integers(0, 2), st.integers(1, 4)), min_size=1, max_size=6))
def test_shared_tokens_is_the_longest_prefix_with_any_other(
    rows: list[tuple[tuple[Segment, ...], int, int]],
) -> None:
    requests = [
        GoldenRequest(n, 0, prompt, outputs, 0, 0.0, stream, None)
        for n, (prompt, stream, outputs) in enumerate(rows)
    ]
    sequences = [_tokens((*r.prompt, Segment(r.out_seed, 0, r.max_tokens))) for r in requests]
    shared = count_shared_tokens(requests)
    for n, sequence in enumerate(sequences):
        others = [_count_common(sequence, s) for m, s in enumerate(sequences) if m != n]
        assert shared[n] == max(others, default=0)
