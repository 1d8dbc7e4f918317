"""Result files of `vllm bench serve --save-result --save-detailed`, replayed as a workload."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from simserve.errors import TraceError
from simserve.workload.json_rows import Record
from simserve.workload.lines import MOST_TOKENS, read_lines
from simserve.workload.rows import TraceRows
from simserve.workload.workload import Workload

# Any clock's seconds, the Unix time included; differences stay within 64 bits of nanoseconds.
_MOST_S = 4 * 10**9
KEYS = ("input_lens", "output_lens", "start_times")


def read(path: Path, run: int = 0) -> Workload:
    """Read a benchmark's requests: start_times (from the earliest), input_lens, output_lens.

    Requests that failed there (an error text, or no output and no first token) have no known output length
    and are left out; `Workload.source` says how many.

    Args:
        path: The file; with `--append-result` it holds one object a line.
        run: Which of those objects, from 0.

    Raises:
        TraceError: If the file is no such result, or was saved without `--save-detailed`.
    """
    record = read_result(path, run)
    lists = {key: read_numbers(record, key) for key in KEYS}
    count = len(lists["start_times"])
    for key in KEYS:
        if len(lists[key]) != count:
            record.fail(key, f"expected {count} entries, as many as start_times")
    errors: list[Any] = record.fields.get("errors") or [""] * count
    first_tokens: list[Any] = record.fields.get("ttfts") or [1.0] * count
    if (
        not isinstance(errors, list)
        or not isinstance(first_tokens, list)
        or {len(errors), len(first_tokens)} != {count}
    ):
        record.fail("errors", f"expected errors and ttfts to have {count} entries each")
    first = min(lists["start_times"], default=0.0)
    rows = TraceRows(path)
    for index, start_s in enumerate(lists["start_times"]):
        output = int(lists["output_lens"][index])
        if errors[index] or (output == 0 and not first_tokens[index]):
            continue
        rows.add(round((start_s - first) * 1e9), int(lists["input_lens"][index]), output)
    if len(rows) < count:
        rows.notes.append(f"{count - len(rows)} failed requests left out")
    return rows.workload("vllm bench serve result, times from its first request")


def read_result(path: Path, run: int = 0) -> Record:
    """Return one result object of a file; `run` counts from 0.

    Raises:
        TraceError: If it is no JSON object, or there are fewer.
    """
    text = "".join(read_lines(path))
    decoder = json.JSONDecoder()
    position, number = 0, 0
    while True:
        while position < len(text) and text[position].isspace():
            position += 1
        if position == len(text):
            raise TraceError(f"the file has {number} results; expected one with number {run}", file=str(path))
        try:
            fields, end = decoder.raw_decode(text, position)
        except (json.JSONDecodeError, RecursionError) as error:
            line, column = getattr(error, "lineno", None), getattr(error, "colno", None)
            raise TraceError(f"broken JSON: {error}", file=str(path), line=line, column=column) from error
        line = text.count("\n", 0, position) + 1
        if not isinstance(fields, dict):
            raise TraceError("expected a JSON object", file=str(path), line=line)
        if number == run:
            return Record(str(path), line, fields)
        position, number = end, number + 1


def read_numbers(record: Record, key: str) -> list[float]:
    """Return a list of numbers of a detailed result. Raises TraceError."""
    values = record.fields.get(key)
    if not isinstance(values, list):
        record.fail(key, "expected a list; save the result with --save-detailed")
    least, most = (-_MOST_S, _MOST_S) if key == "start_times" else (0, MOST_TOKENS)
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            record.fail(key, f"expected numbers from {least} to {most}, found {value!r}")
    return values
