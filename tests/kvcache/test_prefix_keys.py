"""Keys of blocks: equal exactly where all tokens up to the block's end are equal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from simserve.kvcache.prefix_keys import block_keys, stream_at, token_segments
from simserve.workload.request import Request, Segment

segments = st.lists(
    st.builds(Segment, st.integers(0, 3), st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=6
)


def build(prompt: list[Segment], output: int = 3) -> Request:
    length = sum(segment.length for segment in prompt)
    return Request(7, 0, tuple(prompt), length, output, output, 99)


def tokens_of(request: Request) -> list[tuple[int, int]]:
    parts = [*request.prompt, Segment(request.output_stream, 0, request.max_tokens)]
    return [(stream, start + i) for stream, start, length in parts for i in range(length)]


@given(first=segments, second=segments, block_size=st.integers(1, 5))
def test_keys_agree_as_long_as_tokens_do(
    first: list[Segment], second: list[Segment], block_size: int
) -> None:
    requests = [build(first), build(second)]
    tokens = [tokens_of(request) for request in requests]
    keys = [block_keys(token_segments(request), block_size, 1000) for request in requests]
    for request_keys, request_tokens in zip(keys, tokens, strict=True):
        assert len(request_keys) == len(request_tokens) // block_size
    for block, pair in enumerate(zip(*keys, strict=False)):
        end = (block + 1) * block_size
        assert (pair[0] == pair[1]) == (tokens[0][:end] == tokens[1][:end])


@given(prompt=segments)
def test_stream_at_is_the_stream_of_the_token(prompt: list[Segment]) -> None:
    request = build(prompt)
    canonical = token_segments(request)
    for position, (stream, _) in enumerate(tokens_of(request)):
        assert stream_at(canonical, position) == stream
    assert stream_at(canonical, len(tokens_of(request))) is None


def test_a_prompt_without_segments_is_like_no_other() -> None:
    requests = [Request(i, 0, (), 32, 1, 1, 100 + i) for i in range(2)]
    first, second = (block_keys(token_segments(request), 16, 2) for request in requests)
    assert not set(first) & set(second)


def test_no_more_keys_than_asked_for() -> None:
    request = build([Segment(1, 0, 100)])
    assert block_keys(token_segments(request), 10, 3) == block_keys(token_segments(request), 10, 99)[:3]
