"""Writers of simserve's own trace formats; the same workload always gives the same bytes."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from simserve.errors import InputError, TraceError
from simserve.workload.formats.native import (
    CSV_COLUMNS,
    HEADER_KEY,
    META,
    NEEDED,
    OPTIONAL,
    TEXTS,
    VERSION,
    default_column,
)
from simserve.workload.workload import Workload

# Up to here seconds as a float (two roundings of 2^-53) still give back the integer ns.
_MOST_CSV_NS = 2**51


def write_trace(workload: Workload, path: str | Path) -> None:
    """Write a workload as .csv, .jsonl or .parquet (each also .gz, but for parquet), whole or not at all.

    JSONL and parquet keep every field; CSV keeps arrivals, lengths and labels.

    Args:
        workload: What to write; its client is no part of a trace.
        path: The file; its name says the format. An existing one is replaced, its folder made if need be.

    Raises:
        InputError: If the name says no format, or CSV cannot hold the workload.
        TraceError: If the file cannot be written.
    """
    path = Path(path)
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "parquet" and path.suffix == ".parquet":
            _write_parquet(workload, temporary)
        elif kind in ("csv", "jsonl"):
            lines = _csv_lines(workload) if kind == "csv" else _json_lines(workload)
            _write_lines(lines, temporary, zipped=path.suffix == ".gz")
        else:
            raise InputError(
                f"cannot tell a trace format from {path.name!r}; expected .csv, .jsonl (.gz) or .parquet"
            )
        os.replace(temporary, path)
    except OSError as error:
        raise TraceError(f"cannot write the trace: {error.strerror or error}", file=str(path)) from error
    finally:
        with suppress(OSError):  # it may lie below a file
            temporary.unlink()


def _write_lines(lines: Iterator[str], path: Path, zipped: bool) -> None:
    data = "".join(line + "\n" for line in lines).encode()
    # No name and no time in the gzip header, so that equal traces are equal files.
    path.write_bytes(gzip.compress(data, compresslevel=9, mtime=0) if zipped else data)


def _csv_lines(load: Workload) -> Iterator[str]:
    if load.prompts is not None or load.predecessor is not None or load.max_tokens is not None:
        raise InputError(
            "CSV holds no shared prompts, sessions or token limits; expected a .jsonl or .parquet name"
        )
    if load.count and load.arrival_ns[-1] > _MOST_CSV_NS:
        raise InputError("CSV holds arrivals up to 26 days; expected a .jsonl or .parquet name")
    labels = [
        (name, column.texts(0, load.count)) for name in TEXTS if (column := getattr(load, name)) is not None
    ]
    extra = [texts for _, texts in labels]
    names = [*CSV_COLUMNS, *(name for name, _ in labels)]
    if load.priority is not None:
        names.append("priority")
        extra.append([str(value) for value in load.priority.tolist()])
    if any(set(text) & set(',"\n\r') for texts in extra for text in texts):
        raise InputError("a label with a comma, a quote or a line break; expected a .jsonl or .parquet name")
    yield ",".join(names)
    times = [f"{ns // 10**9}.{ns % 10**9:09d}".rstrip("0").rstrip(".") for ns in load.arrival_ns.tolist()]
    lengths = [[str(n) for n in column.tolist()] for column in (load.prompt_tokens, load.output_tokens)]
    yield from map(",".join, zip(times, *lengths, *extra, strict=True))


def _json_lines(load: Workload) -> Iterator[str]:
    yield json.dumps({HEADER_KEY: VERSION, **{name: getattr(load, name) for name in META}})
    needed = [getattr(load, name).tolist() for name in NEEDED]
    optional = []
    for name in OPTIONAL:
        column = getattr(load, name)
        if column is not None:
            defaults = default_column(name, load.output_tokens)
            optional.append((name, column.tolist(), (column == defaults).tolist()))
    texts = [
        (name, column.texts(0, load.count)) for name in TEXTS if (column := getattr(load, name)) is not None
    ]
    prompts = None if load.prompts is None else load.prompts.tuples(0, load.count)
    for row, values in enumerate(zip(*needed, strict=True)):
        fields: dict[str, object] = dict(zip(NEEDED, values, strict=True))
        fields.update((name, numbers[row]) for name, numbers, same in optional if not same[row])
        fields.update((name, labels[row]) for name, labels in texts if labels[row])
        if prompts is not None and prompts[row]:
            fields["prompt"] = prompts[row]
        yield json.dumps(fields, separators=(",", ":"))


def _write_parquet(load: Workload, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, object] = {}
    for name in (*NEEDED, *OPTIONAL):
        column = getattr(load, name)
        if column is not None:
            columns[name] = pa.array(column, pa.int64())
    for name in TEXTS:
        labels = getattr(load, name)
        if labels is not None:
            codes = pa.array(labels.codes.astype(np.int32))
            columns[name] = pa.DictionaryArray.from_arrays(codes, pa.array(labels.names, pa.string()))
    if load.prompts is not None:
        prompts = load.prompts
        parts = [pa.array(column, pa.int64()) for column in (prompts.stream, prompts.start, prompts.length)]
        segments = pa.StructArray.from_arrays(parts, names=["stream", "start", "length"])
        columns["prompt"] = pa.LargeListArray.from_arrays(pa.array(prompts.offsets, pa.int64()), segments)
    meta = json.dumps({name: getattr(load, name) for name in META})
    table = pa.table(columns).replace_schema_metadata({HEADER_KEY: meta})
    pq.write_table(table, path, compression="zstd")
