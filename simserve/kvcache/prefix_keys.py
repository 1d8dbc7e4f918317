"""Keys of a prompt's blocks: equal exactly where all tokens up to the end of the blocks are the same.

vLLM chains a hash over every block's tokens. Here tokens are segments of streams, so the identity of a
prefix is the chain of its segments and how far it reaches into the last one. A segment's anchor is a hash
of that chain; the key of the prefix ending `n` tokens into the stream is `anchor + n`, so the keys of all
blocks of a segment are one `range`. Anchors have 62 bits: the ranges of a million segments of ten
thousand tokens overlap with a probability of about 1e-3 * 1e-6.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from simserve.workload.request import Request, Segment

_ANCHOR_MASK = (1 << 62) - 1
# Blocks up to number `end` (exclusive), from where the span before it ended: block i has the key
# `origin + (i + 1) * block_size`.
Span = tuple[int, int]
# Streams of tokens that no other request has; below every stream that a workload may use.
PRIVATE_STREAM_BASE = -(1 << 40)


def merge_segments(segments: Iterable[Segment]) -> list[Segment]:
    """Join neighbours that continue each other and drop empty ones: equal token sequences get equal lists."""
    merged: list[Segment] = []
    for segment in segments:
        if not segment.length:
            continue
        last = merged[-1] if merged else None
        if last and last.stream == segment.stream and last.start + last.length == segment.start:
            merged[-1] = Segment(last.stream, last.start, last.length + segment.length)
        else:
            merged.append(segment)
    return merged


def token_segments(request: Request) -> list[Segment]:
    """Return the merged segments of prompt and output."""
    prompt = request.prompt or (Segment(PRIVATE_STREAM_BASE - request.id, 0, request.prompt_tokens),)
    return merge_segments((*prompt, Segment(request.output_stream, 0, request.max_tokens)))


def key_spans(segments: Sequence[Segment], block_size: int) -> list[Span]:
    """Return the keys of a token sequence's full blocks, a span for each segment in which blocks end."""
    spans = []
    anchor = begin = blocks = 0
    for stream, start, length in segments:
        anchor = hash((anchor, stream, start)) & _ANCHOR_MASK
        end = begin + length
        if end // block_size > blocks:
            blocks = end // block_size
            spans.append((anchor + start - begin, blocks))
        anchor += length
        begin = end
    return spans


def block_keys(segments: Sequence[Segment], block_size: int, blocks: int) -> list[int]:
    """Return the keys of the first `blocks` full blocks of a token sequence (fewer if it is shorter)."""
    keys: list[int] = []
    for origin, end in key_spans(segments, block_size):
        keys.extend(range(origin + (len(keys) + 1) * block_size, origin + end * block_size + 1, block_size))
        if len(keys) >= blocks:
            return keys[:blocks]
    return keys


def stream_at(segments: Sequence[Segment], position: int) -> int | None:
    """Return the stream of the token at `position`, or None past the end."""
    for stream, _, length in segments:
        if position < length:
            return stream
        position -= length
    return None
