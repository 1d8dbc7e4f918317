"""The spans of every request's life: what it did in which steps of its instance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from simserve.metrics import arrow
from simserve.metrics.columns import Ints, Mask, RequestColumns, as_ints
from simserve.metrics.record import RequestLog

KINDS = ("queued", "prefill", "decode", "preempted", "transfer")
# The columns of a block of spans: row in the request log, place among the row's spans, code in KINDS, first
# step, last step, tokens.
_Spans = tuple[Ints, Ints, Ints, Ints, Ints, Ints]


def spans_table(log: RequestLog, columns: RequestColumns) -> pa.Table:
    """Return a row a span, in the order of the requests and of each one's life.

    Steps count from 0 within the request's instance, both ends included. `tokens` are those computed (for
    `decode`: generated after the first token). `queued` spans the steps that ran between a request's arrival
    and its first scheduling, and is absent where it waited for none.
    """
    recorded = np.zeros(len(columns), dtype=np.bool_)
    if log.spans:
        recorded = np.array([key in log.spans for key in log.request_id], dtype=np.bool_)
    queued = _queued(columns)
    place = np.zeros(len(columns), dtype=np.int64)
    place[queued[0]] = 1
    blocks = [queued, *_regular(columns, ~recorded, place), _recorded(columns, log.spans, recorded, place)]
    return _laid_out(blocks, columns.request_id)


def prefill_steps(log: RequestLog, columns: RequestColumns) -> tuple[Ints, Ints, Ints]:
    """Return the instance, the first and the last step of each span in which a prompt was computed."""
    recorded = np.array([key in log.spans for key in log.request_id], dtype=np.bool_)
    nowhere = np.zeros(len(columns), dtype=np.int64)
    regular, _ = _regular(columns, ~recorded, nowhere)
    own = _recorded(columns, log.spans, recorded, nowhere)
    chosen = own[2] == KINDS.index("prefill")
    row, _, _, first, last, _ = (
        np.concatenate((one, other[chosen])) for one, other in zip(regular, own, strict=True)
    )
    return columns.instance[row], first, last


def _laid_out(blocks: Sequence[_Spans], request_id: Ints) -> pa.Table:
    """Put the spans of all blocks where they belong: by row, then by place."""
    counts = np.zeros(len(request_id), dtype=np.int64)
    for row, *_ in blocks:
        counts += np.bincount(row, minlength=len(request_id))
    begin = np.cumsum(counts) - counts
    size = int(counts.sum())
    kind, first, last, tokens = (np.empty(size, dtype=np.int32) for _ in range(4))
    for row, place, *values in blocks:
        at = begin[row] + place
        for column, value in zip((kind, first, last, tokens), values, strict=True):
            column[at] = value
    return arrow.table(
        {
            "request_id": arrow.ints(np.repeat(request_id, counts)),
            "kind": arrow.coded_labels(kind, KINDS),
            "first_step": arrow.small_ints(first),
            "last_step": arrow.small_ints(last),
            "tokens": arrow.small_ints(tokens),
        }
    )


def _block(rows: Ints, place: Ints, kind: str, first: Ints, last: Ints, tokens: Ints) -> _Spans:
    return rows, place, np.full(len(rows), KINDS.index(kind), dtype=np.int64), first, last, tokens


def _queued(columns: RequestColumns) -> _Spans:
    """Steps that ended after the arrival and before the first step (or the end, if it never ran)."""
    first = np.zeros(len(columns), dtype=np.int64)
    last = np.full(len(columns), -1, dtype=np.int64)
    for log, rows in columns.rows_by_instance():
        ends = as_ints(log.end_ns)
        first[rows] = np.searchsorted(ends, columns.arrival_ns[rows], side="right")
        scheduled = columns.first_step[rows]
        gone = columns.end_ns[rows]
        until = np.where(gone >= 0, np.searchsorted(ends, gone, side="left"), len(ends))
        last[rows] = np.where(scheduled >= 0, scheduled - 1, np.minimum(until, len(ends) - 1))
    rows = np.flatnonzero(first <= last)
    nothing = np.zeros(len(rows), dtype=np.int64)
    return _block(rows, nothing, "queued", first[rows], last[rows], nothing)


def _regular(columns: RequestColumns, chosen: Mask, place: Ints) -> tuple[_Spans, _Spans]:
    """One prefill, then decode until the last token: `finish_step`, or so many steps if it did not finish."""
    rows = np.flatnonzero(chosen & (columns.first_token_step >= 0))
    begin = columns.first_token_step[rows]
    computed = columns.prompt_tokens[rows] - columns.cached_tokens[rows]
    prefill = _block(rows, place[rows], "prefill", columns.first_step[rows], begin, computed)
    more = np.flatnonzero(columns.output_tokens[rows] > 1)
    generated = columns.output_tokens[rows[more]] - 1
    begin, rows = begin[more] + 1, rows[more]
    finish = columns.finish_step[rows]
    last = np.where(finish >= 0, finish, begin + generated - 1)
    decode = _block(rows, place[rows] + 1, "decode", begin, last, generated)
    return prefill, decode


def _recorded(
    columns: RequestColumns,
    spans: Mapping[int, Sequence[tuple[str, int, int, int]]],
    chosen: Mask,
    place: Ints,
) -> _Spans:
    """Spans that the engine wrote itself."""
    code = {kind: number for number, kind in enumerate(KINDS)}
    rows = np.flatnonzero(chosen)
    flat = [
        (row, number, code[kind], first, last, tokens)
        for row, key in zip(rows.tolist(), columns.request_id[rows].tolist(), strict=True)
        for number, (kind, first, last, tokens) in enumerate(spans[key])
    ]
    row, number, kinds, first, last, tokens = np.array(flat, dtype=np.int64).reshape(-1, 6).T
    return row, place[row] + number, kinds, first, last, tokens
