"""simserve's own traces: a CSV to write by hand; JSONL and parquet that keep every field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from simserve.errors import TraceError
from simserve.workload.csv_rows import Row, read_csv
from simserve.workload.ideal_hits import shared_bound
from simserve.workload.json_rows import Record, read_jsonl
from simserve.workload.lines import LARGEST
from simserve.workload.rows import TraceRows
from simserve.workload.workload import IntColumn, Labels, Prompts, Workload

CSV_COLUMNS = ("arrival_s", "prompt_tokens", "output_tokens")
HEADER_KEY = "simserve_trace"
VERSION = 1

# Columns of a workload in JSONL and parquet: whole numbers (with the least value), then texts.
NEEDED = {"arrival_ns": 0, "prompt_tokens": 0, "output_tokens": 0}
OPTIONAL = {
    "max_tokens": 1,
    "output_stream": -LARGEST,
    "shared_tokens": 0,
    "priority": -LARGEST,
    "predecessor": -1,
    "gap_ns": 0,
}
TEXTS = ("tenant", "session", "slo_class")
META = ("name", "source", "has_arrivals", "block_tokens")


def read_table(path: Path) -> Workload:
    """Read a CSV: arrival_s, prompt_tokens, output_tokens; if wanted tenant, session, slo_class, priority.

    Raises:
        TraceError: If a row is broken.
    """
    rows = TraceRows(path)
    priorities: list[int] = []
    classes: list[str] = []
    for row in read_csv(path, CSV_COLUMNS):
        _check_columns(row, path)
        rows.add(row.time_ns("arrival_s"), row.tokens("prompt_tokens"), row.tokens("output_tokens"))
        rows.tenant.append(row.text("tenant"))
        rows.session.append(row.text("session"))
        priorities.append(row.integer("priority") if row.text("priority") else 0)
        classes.append(row.text("slo_class"))
    if any(priorities):
        rows.priority = np.array(priorities, dtype=np.int64)
    rows.slo_class = Labels.encode(classes)
    return rows.workload("table of arrivals and lengths, every prompt of its own")


def _check_columns(row: Row, path: Path) -> None:
    allowed = {*CSV_COLUMNS, *TEXTS, "priority"}
    unknown = [name for name in row.columns if name not in allowed]
    if unknown:
        message = f"unknown column {unknown[0]!r}; expected some of {', '.join(sorted(allowed))}"
        raise TraceError(message, file=str(path), line=1)


def read_json(path: Path) -> Workload:
    """Read simserve's JSONL: a header line, then a request a line with the fields that are not their default.

    Raises:
        TraceError: If a row is broken.
    """
    records = read_jsonl(path)
    header = next(records, None)
    if header is None or header.fields.get(HEADER_KEY) != VERSION:
        raise TraceError(f'expected a first line {{"{HEADER_KEY}": {VERSION}, ...}}', file=str(path), line=1)
    ints: dict[str, list[int]] = {name: [] for name in (*NEEDED, *OPTIONAL)}
    texts: dict[str, list[str]] = {name: [] for name in TEXTS}
    counts: list[int] = []
    segments: list[list[int]] = []
    known = {*NEEDED, *OPTIONAL, *TEXTS, "prompt"}
    for row, record in enumerate(records):
        for key in record.fields.keys() - known:
            raise TraceError(f"unknown field {key!r}", file=str(path), line=record.number)
        for name, least in NEEDED.items():
            ints[name].append(
                record.tokens(name) if name != "arrival_ns" else record.integer(name, least=least)
            )
        for name, least in OPTIONAL.items():
            default = _default(name, row, ints["output_tokens"][-1])
            ints[name].append(record.integer(name, least=least) if name in record else default)
        if not -1 <= ints["predecessor"][-1] < row or (
            row and ints["arrival_ns"][-1] < ints["arrival_ns"][-2]
        ):
            record.fail("predecessor", "expected requests in order of arrival, and predecessors before them")
        for name in TEXTS:
            texts[name].append(record.text(name))
        prompt = _segments(record, ints["prompt_tokens"][-1])
        counts.append(len(prompt))
        segments.extend(prompt)
    if not counts:
        raise TraceError("the trace has no requests", file=str(path))
    columns: dict[str, Any] = {name: np.array(values, dtype=np.int64) for name, values in ints.items()}
    columns.update({name: Labels.encode(values) for name, values in texts.items()})
    if segments:
        flat = np.array(segments, dtype=np.int64)
        offsets = np.concatenate(([0], np.cumsum(np.array(counts, dtype=np.int64))))
        columns["prompts"] = Prompts(offsets, *(flat[:, i].copy() for i in range(3)))
    return assemble(columns, header.fields)


def _segments(record: Record, tokens: int) -> list[list[int]]:
    prompt = record.fields.get("prompt", [])
    valid = isinstance(prompt, list) and all(
        isinstance(part, list)
        and len(part) == 3
        and all(type(x) is int for x in part)
        and part[1] >= 0 < part[2]
        for part in prompt
    )
    if not valid or (prompt and sum(part[2] for part in prompt) != tokens):
        record.fail("prompt", f"expected [[stream, start, length], ...] of {tokens} tokens in all")
    return list(prompt)


def _default(name: str, row: int, output_tokens: int) -> int:
    return {"output_stream": row, "predecessor": -1, "max_tokens": max(output_tokens, 1)}.get(name, 0)


def default_column(name: str, output_tokens: IntColumn) -> IntColumn:
    """Return the values that an optional column has where it is not given, shape (rows,)."""
    rows = np.arange(len(output_tokens), dtype=np.int64)
    if name == "output_stream":
        return rows
    if name == "max_tokens":
        return np.maximum(output_tokens, 1)
    return np.full_like(rows, -1 if name == "predecessor" else 0)


def assemble(columns: dict[str, Any], meta: dict[str, Any]) -> Workload:
    """Return the workload of these columns; optional ones that hold only defaults are dropped.

    Prompts without any shared_tokens get an upper bound of them.
    """
    if columns.get("prompts") is not None and not np.any(columns.get("shared_tokens", 0)):
        columns["shared_tokens"] = shared_bound(
            columns["prompts"],
            columns["prompt_tokens"],
            columns["output_tokens"],
            columns.get("output_stream"),
        )
    for name in OPTIONAL:
        column = columns.get(name)
        if column is not None and np.array_equal(column, default_column(name, columns["output_tokens"])):
            columns[name] = None
    if columns.get("predecessor") is None:
        columns["gap_ns"] = None
    return Workload(
        **columns,
        name=str(meta.get("name", "")),
        source=str(meta.get("source", "")),
        has_arrivals=bool(meta.get("has_arrivals", True)),
        block_tokens=int(meta.get("block_tokens", 0)),
    )


def read_parquet(path: Path) -> Workload:
    """Read simserve's parquet.

    Raises:
        TraceError: If it is no parquet file of simserve.
    """
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        meta = json.loads((table.schema.metadata or {})[HEADER_KEY.encode()])
        columns: dict[str, Any] = {}
        for name in (*NEEDED, *OPTIONAL):
            if name in table.column_names:
                columns[name] = table[name].combine_chunks().to_numpy(zero_copy_only=False).astype(np.int64)
        for name in TEXTS:
            if name in table.column_names:
                columns[name] = Labels.encode(table[name].to_pylist())
        if "prompt" in table.column_names:
            columns["prompts"] = _prompts_from_arrow(table["prompt"].combine_chunks())
    except (OSError, KeyError, ValueError, TypeError, pa.ArrowException) as error:
        raise TraceError(f"this is no parquet trace of simserve: {error}", file=str(path)) from error
    if any(name not in columns for name in NEEDED) or not table.num_rows:
        raise TraceError("the trace has no requests", file=str(path))
    _check_columns_in_order(columns, path)
    return assemble(columns, meta)


def _prompts_from_arrow(column: Any) -> Prompts:
    parts = column.flatten()
    streams = [
        parts.field(name).to_numpy(zero_copy_only=False).astype(np.int64)
        for name in ("stream", "start", "length")
    ]
    return Prompts(np.asarray(column.offsets).astype(np.int64), *streams)


def _check_columns_in_order(columns: dict[str, Any], path: Path) -> None:
    arrivals: IntColumn = columns["arrival_ns"]
    wrong = np.flatnonzero(np.diff(arrivals) < 0)
    for name, least in {**NEEDED, **OPTIONAL}.items():
        if name in columns:
            wrong = np.concatenate((wrong, np.flatnonzero(columns[name] < least)))
    if "predecessor" in columns:
        wrong = np.concatenate((wrong, np.flatnonzero(columns["predecessor"] >= np.arange(len(arrivals)))))
    if columns.get("prompts") is not None:
        wrong = np.concatenate((wrong, _wrong_prompts(columns["prompts"], columns["prompt_tokens"])))
    if len(wrong):
        message = "expected requests by arrival, predecessors before them, whole prompts, no negative numbers"
        raise TraceError(message, file=str(path), line=int(wrong.min()) + 1)


def _wrong_prompts(prompts: Prompts, prompt_tokens: IntColumn) -> IntColumn:
    """Rows whose segments are empty, start before their stream, or do not add up to the prompt."""
    if np.any(prompts.length <= 0) or np.any(prompts.start < 0):
        return np.zeros(1, dtype=np.int64)
    sums = np.diff(np.concatenate(([0], np.cumsum(prompts.length)))[prompts.offsets])
    result: IntColumn = np.flatnonzero((np.diff(prompts.offsets) > 0) & (sums != prompt_tokens))
    return result
