"""From a trace's chained block hashes to segments of token streams.

Equal ids are equal blocks, in most traces after equal prefixes only. Every id is given a place,
`block_tokens` tokens of a stream: an id that follows another for the first time goes on in that one's
stream, a second follower of the same id starts a stream of its own. So a prompt of a hundred blocks is a
handful of segments, one for each point where it leaves the prompts before it, and equal segments are still
exactly equal blocks.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import chain
from typing import TypeAlias

import numpy as np

from simserve.workload.workload import IntColumn, Prompts

Piece: TypeAlias = tuple[int, int, int]
"""Stream, start, length; a segment that is not yet an object."""
Pieces: TypeAlias = list[Piece]


class BlockStreams:
    """Places of all ids of one trace. Output streams are 0 ... rows - 1, the others follow.

    Args:
        rows: Number of requests.
        block_tokens: Tokens of a block.
    """

    def __init__(self, rows: int, block_tokens: int) -> None:
        self._block = block_tokens
        self._next_stream = rows
        self._outputs = array("q", range(rows))
        self._places: dict[int, Piece] = {}
        # The block over the border of a prompt and its output lies in two streams.
        self._borders: dict[int, tuple[Piece, Piece]] = {}
        self._continued: set[int] = set()
        self._owners: dict[int, tuple[int, int, Sequence[int]]] = {}

    def output_streams(self) -> array[int]:
        """Return the output stream of each row."""
        return self._outputs

    def add_output(self, row: int, ids: Sequence[int], prompt_tokens: int) -> None:
        """Place the blocks that go on over a request's output, in its output stream.

        Call it for every row before the first `prompt`, so that prompts find what others generate. A request
        with the same prompt and the same blocks of output as an earlier one shares its stream; where two
        outputs agree only in part, the later one's stream is its own and that part is not shared.
        """
        first = prompt_tokens // self._block
        new = ids[first:]
        if not new:
            return
        if new[0] in self._owners:
            owner, length, blocks = self._owners[new[0]]
            if length == prompt_tokens and list(blocks) == list(new):
                self._outputs[row] = owner
            return
        if new[0] in self._places or new[0] in self._borders:
            return
        self._owners[new[0]] = (row, prompt_tokens, new)
        inside = prompt_tokens % self._block
        for index, block_id in enumerate(new):
            start = index * self._block - inside
            if start < 0:
                border = (self._new_stream(), 0, inside), (row, 0, self._block - inside)
                self._borders[block_id] = border
            else:
                self._places[block_id] = (row, start, self._block)
            self._continued.add(block_id)

    def prompt(self, ids: Sequence[int], prompt_tokens: int) -> Pieces:
        """Return a prompt's segments; tokens behind its last id are of a stream of their own.

        Args:
            ids: Its hash ids; those behind the prompt's end are left out, the last one may be cut.
            prompt_tokens: Its length.
        """
        pieces: Pieces = []
        left = prompt_tokens
        previous = -1
        for block_id in ids:
            if left <= 0:
                break
            border = self._borders.get(block_id)
            if border is None:
                place = self._places.get(block_id) or self._place(block_id, previous)
                left -= _append(pieces, place, left)
            else:
                left -= _append(pieces, border[0], left)
                left -= _append(pieces, border[1], left)
            previous = block_id
        if left > 0:
            pieces.append((self._new_stream(), 0, left))
        return pieces

    def _place(self, block_id: int, previous: int) -> Piece:
        before = self._places.get(previous)
        if before is None or previous in self._continued:
            place = (self._new_stream(), 0, self._block)
        else:
            place = (before[0], before[1] + self._block, self._block)
            self._continued.add(previous)
        self._places[block_id] = place
        return place

    def _new_stream(self) -> int:
        self._next_stream += 1
        return self._next_stream - 1


def _append(pieces: Pieces, place: Piece, most: int) -> int:
    """Append up to `most` tokens of a place, in the last piece if they go on in it; return how many."""
    stream, start, length = place
    length = min(length, most)
    if length <= 0:
        return 0
    if pieces:
        last_stream, last_start, last_length = pieces[-1]
        if last_stream == stream and last_start + last_length == start:
            pieces[-1] = (stream, last_start, last_length + length)
            return length
    pieces.append((stream, start, length))
    return length


def prompts_of(pieces: Sequence[Pieces]) -> Prompts:
    """Return the column of these prompts."""
    offsets = np.zeros(len(pieces) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in pieces], out=offsets[1:])
    flat = np.fromiter(chain.from_iterable(chain.from_iterable(pieces)), np.int64, 3 * int(offsets[-1]))
    stream, start, length = np.ascontiguousarray(flat.reshape(-1, 3).T)
    return Prompts(offsets, stream, start, length)


def shared_tokens_of(ids: Sequence[Sequence[int]], block_tokens: int, total_tokens: IntColumn) -> IntColumn:
    """Return how many leading tokens of each request end with the last block that another request has too.

    Args:
        ids: Hash ids of each request.
        block_tokens: Tokens of a block.
        total_tokens: Tokens that the ids can cover at most, shape (rows,).
    """
    counts = np.fromiter(map(len, ids), np.int64, len(ids))
    flat = np.fromiter(chain.from_iterable(ids), np.int64, int(counts.sum()))
    _, inverse, uses = np.unique(flat, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    position = np.arange(len(flat)) - np.repeat(ends - counts, counts) + 1
    blocks = np.zeros(len(ids), dtype=np.int64)
    np.maximum.at(blocks, np.repeat(np.arange(len(ids)), counts), np.where(uses[inverse] > 1, position, 0))
    return np.minimum(blocks * block_tokens, total_tokens)
