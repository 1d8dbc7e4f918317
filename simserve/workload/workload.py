"""A workload: requests as columns, made into `Request` objects only when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise, repeat
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from simserve.workload.client import Client
from simserve.workload.request import Request, Segment

IntColumn: TypeAlias = NDArray[np.int64]

# Rows made into objects at a time: large enough to amortise numpy's per-call cost, small enough for the
# cache.
_CHUNK = 4096
_make_segment = partial(tuple.__new__, Segment)  # Segment(*fields) without its Python-level __new__


@dataclass(frozen=True, eq=False)
class Labels:
    """A text column as codes: row i has the text `names[codes[i]]`."""

    codes: IntColumn
    names: tuple[str, ...]

    @staticmethod
    def encode(texts: Sequence[str]) -> Labels | None:
        """Return the column of these texts, or None where all are empty."""
        codes: dict[str, int] = {}
        column = np.fromiter((codes.setdefault(text, len(codes)) for text in texts), np.int64, len(texts))
        return Labels(column, tuple(codes)) if set(codes) - {""} else None

    def texts(self, start: int, stop: int) -> list[str]:
        """Return the texts of rows start ... stop - 1."""
        return [self.names[code] for code in self.codes[start:stop].tolist()]

    def take(self, rows: IntColumn) -> Labels:
        """Return the column of the given rows."""
        return Labels(self.codes[rows], self.names)


@dataclass(frozen=True, eq=False)
class Prompts:
    """Segments of all prompts: those of row i are `offsets[i] ... offsets[i + 1] - 1` of the other columns.

    Attributes:
        offsets: Shape (rows + 1,), from 0, non-decreasing.
        stream, start, length: Shape (segments,); see `Segment`.
    """

    offsets: IntColumn
    stream: IntColumn
    start: IntColumn
    length: IntColumn

    def tuples(self, start: int, stop: int) -> list[tuple[Segment, ...]]:
        """Return the prompts of rows start ... stop - 1."""
        bounds = self.offsets[start : stop + 1].tolist()
        first, last = bounds[0], bounds[-1]
        columns = (column[first:last].tolist() for column in (self.stream, self.start, self.length))
        segments: list[Segment] = list(map(_make_segment, zip(*columns, strict=True)))
        return [tuple(segments[a - first : b - first]) for a, b in pairwise(bounds)]

    def take(self, rows: IntColumn) -> Prompts:
        """Return the prompts of the given rows."""
        counts = np.diff(self.offsets)[rows]
        offsets = np.concatenate(([0], np.cumsum(counts)))
        picked = np.repeat(self.offsets[rows] - offsets[:-1], counts) + np.arange(offsets[-1])
        return Prompts(offsets, self.stream[picked], self.start[picked], self.length[picked])


@dataclass(frozen=True, eq=False)
class Workload:
    """Requests in order of their recorded arrival; row i is the request with id i.

    Columns have shape (rows,); a column that is None has the same value in every row: its default.

    Attributes:
        name: What it is called in reports.
        arrival_ns: Due times, non-decreasing; of a follow-up the recorded (or nominal) time, not used by a
            run.
        prompt_tokens, output_tokens: Lengths as recorded; one of 0 runs as 1 (see `zero_lengths`).
        max_tokens: None: the output's length.
        output_stream: None: the row's number.
        shared_tokens, priority: None: 0. See `Request`.
        tenant, session, slo_class: None: empty.
        prompts: None: every prompt is of its own, and no segments are needed.
        predecessor: Row whose completion releases this one, -1 for none; always a lower row. None: -1.
        gap_ns: Time from that completion to this request. None: 0.
        client: Limits of the load generator.
        source: Where it comes from, in a sentence.
        has_arrivals: False for a trace that records lengths only; then every arrival_ns is 0.
        block_tokens: Tokens of a block of the trace's hash ids; 0: it had none.
    """

    name: str
    arrival_ns: IntColumn
    prompt_tokens: IntColumn
    output_tokens: IntColumn
    max_tokens: IntColumn | None = None
    output_stream: IntColumn | None = None
    shared_tokens: IntColumn | None = None
    priority: IntColumn | None = None
    tenant: Labels | None = None
    session: Labels | None = None
    slo_class: Labels | None = None
    prompts: Prompts | None = None
    predecessor: IntColumn | None = None
    gap_ns: IntColumn | None = None
    client: Client = field(default_factory=Client)
    source: str = ""
    has_arrivals: bool = True
    block_tokens: int = 0

    @property
    def count(self) -> int:
        """Number of requests, follow-ups included."""
        return len(self.arrival_ns)

    def __len__(self) -> int:
        return self.count

    @property
    def zero_lengths(self) -> int:
        """Number of recorded lengths (of prompts and of outputs) that are 0 and run as 1."""
        return int(np.count_nonzero(self.prompt_tokens == 0) + np.count_nonzero(self.output_tokens == 0))

    def requests(self) -> Iterator[Request]:
        """Yield the requests that nothing has to release, in order of (arrival, id), with their follow-ups.

        Objects are made a few thousand at a time, so that a million requests never exist at once.
        """
        if self.predecessor is not None:
            yield from _sessions(self)
            return
        for start in range(0, self.count, _CHUNK):
            yield from _rows(self, start, min(start + _CHUNK, self.count))

    def take(self, rows: IntColumn) -> Workload:
        """Return a workload of the given rows, renumbered from 0.

        Args:
            rows: Rows to keep, shape (n,), in an order in which arrivals do not fall and predecessors come
                first. A row whose predecessor is not kept is due at its recorded time.
        """
        streams = np.arange(self.count, dtype=np.int64) if self.output_stream is None else self.output_stream
        changes: dict[str, object] = {"output_stream": streams[rows]}
        for name in _INT_COLUMNS:
            column = getattr(self, name)
            if column is not None:
                changes[name] = column[rows]
        for name in ("tenant", "session", "slo_class", "prompts"):
            column = getattr(self, name)
            changes[name] = None if column is None else column.take(rows)
        if self.predecessor is not None:
            changes["predecessor"] = _renumber(self.predecessor, rows, self.count)
        return replace(self, **changes)  # type: ignore[arg-type]

    def head(self, limit: int) -> Workload:
        """Return the first `limit` requests."""
        return self if limit >= self.count else self.take(np.arange(limit, dtype=np.int64))


_INT_COLUMNS = (
    "arrival_ns",
    "prompt_tokens",
    "output_tokens",
    "max_tokens",
    "shared_tokens",
    "priority",
    "gap_ns",
)


def _renumber(predecessor: IntColumn, rows: IntColumn, count: int) -> IntColumn:
    new_row = np.full(count + 1, -1, dtype=np.int64)  # the last entry answers predecessor -1
    new_row[rows] = np.arange(len(rows))
    return new_row[predecessor[rows]]


def _ints(column: IntColumn | None, start: int, stop: int, default: int = 0) -> Iterator[int]:
    return repeat(default) if column is None else iter(column[start:stop].tolist())


def _texts(column: Labels | None, start: int, stop: int) -> Iterator[str]:
    return repeat("") if column is None else iter(column.texts(start, stop))


def _rows(load: Workload, start: int, stop: int) -> Iterator[Request]:
    """Requests of rows start ... stop - 1, without follow-ups."""
    outputs = np.maximum(load.output_tokens[start:stop], 1).tolist()
    ids = range(start, stop)
    streams = ids if load.output_stream is None else load.output_stream[start:stop].tolist()
    return map(
        Request,
        ids,
        load.arrival_ns[start:stop].tolist(),
        repeat(()) if load.prompts is None else load.prompts.tuples(start, stop),
        np.maximum(load.prompt_tokens[start:stop], 1).tolist(),
        outputs,
        outputs if load.max_tokens is None else load.max_tokens[start:stop].tolist(),
        streams,
        _ints(load.shared_tokens, start, stop),
        _ints(load.priority, start, stop),
        _texts(load.tenant, start, stop),
        _texts(load.session, start, stop),
        _texts(load.slo_class, start, stop),
        _ints(load.gap_ns, start, stop),
    )


def _sessions(load: Workload) -> Iterator[Request]:
    """Requests without a predecessor, each with all that follow it."""
    assert load.predecessor is not None
    # A session's rows lie far apart in the table, so all objects are made at once, last row first: then a
    # request's follow-ups exist before it does.
    requests = [
        request
        for start in range(0, load.count, _CHUNK)
        for request in _rows(load, start, min(start + _CHUNK, load.count))
    ]
    predecessors = load.predecessor.tolist()
    children: dict[int, list[Request]] = {}
    for row in range(load.count - 1, -1, -1):
        request = requests[row]
        followers = children.pop(row, None)
        if followers is not None:
            request.follow_ups = tuple(reversed(followers))
        if predecessors[row] >= 0:
            children.setdefault(predecessors[row], []).append(request)
    return (request for request, predecessor in zip(requests, predecessors, strict=True) if predecessor < 0)
