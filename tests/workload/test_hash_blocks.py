"""Segments from block hashes are equal exactly where the ids are."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from simserve.workload.hash_blocks import BlockStreams, Pieces, shared_tokens_of

BLOCK = 4
Token = tuple[int, int]

# Chained ids of a few conversations: a path in a tree, where a child's number follows from its parent's.
paths = st.lists(st.lists(st.integers(0, 2), max_size=6), min_size=1, max_size=8)
tails = st.integers(0, BLOCK - 1)


def chained(path: list[int]) -> list[int]:
    ids, node = [], 0
    for step in path:
        node = node * 3 + step + 1
        ids.append(node)
    return ids


def tokens_of(pieces: Pieces) -> list[Token]:
    return [(stream, start + k) for stream, start, length in pieces for k in range(length)]


@given(paths, st.data())
def test_prompts_agree_exactly_as_far_as_their_ids(prompts: list[list[int]], data: st.DataObject) -> None:
    ids = [chained(path) for path in prompts]
    lengths = [len(row) * BLOCK + data.draw(tails) for row in ids]
    streams = BlockStreams(len(ids), BLOCK)
    tokens = [tokens_of(streams.prompt(row, length)) for row, length in zip(ids, lengths, strict=True)]
    for a, row_a in enumerate(ids):
        assert len(tokens[a]) == lengths[a]
        for b, row_b in enumerate(ids):
            same = sum(1 for x, y in zip(row_a, row_b, strict=False) if x == y) * BLOCK
            if a != b:
                assert tokens[a][:same] == tokens[b][:same]
                assert not set(tokens[a][same:]) & set(tokens[b][same:])
    shared = shared_tokens_of(ids, BLOCK, np.array(lengths))
    for a, row in enumerate(ids):
        others = [set(other) for b, other in enumerate(ids) if b != a]
        expected = max(
            (i + 1 for i, block in enumerate(row) if any(block in other for other in others)), default=0
        )
        assert shared[a] == expected * BLOCK


@given(st.lists(st.integers(0, 1), min_size=2, max_size=6), st.integers(1, 23), st.integers(1, 8))
def test_a_prompt_finds_what_another_request_generates(path: list[int], cut: int, more: int) -> None:
    """One request's prompt and output are the start of another's prompt, cut anywhere."""
    ids = chained(path)
    prompt_tokens = min(cut, len(ids) * BLOCK - 1)
    streams = BlockStreams(2, BLOCK)
    streams.add_output(0, ids, prompt_tokens)
    first = tokens_of(streams.prompt(ids, prompt_tokens))
    second = tokens_of(streams.prompt(ids, len(ids) * BLOCK + more))
    whole = first + [(streams.output_streams()[0], k) for k in range(len(ids) * BLOCK - prompt_tokens)]
    assert second[: len(ids) * BLOCK] == whole
    assert len(set(second)) == len(second)


def test_equal_prompts_with_equal_outputs_share_a_stream() -> None:
    streams = BlockStreams(3, BLOCK)
    for row, ids in enumerate(([1, 2, 3], [1, 2, 3], [1, 2, 4])):
        streams.add_output(row, ids, 5)
    assert list(streams.output_streams()) == [0, 0, 2]


def test_a_prompt_is_as_many_segments_as_it_leaves_others() -> None:
    streams = BlockStreams(2, BLOCK)
    assert streams.prompt([1, 2, 3], 12) == [(2, 0, 12)]
    assert streams.prompt([1, 2, 4, 5], 15) == [(2, 0, 8), (3, 0, 7)]
