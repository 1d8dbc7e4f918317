"""Writes a run into a folder: all of it or nothing.

The files are written into a folder beside the wanted one, and onto the disk; then it takes its place by a
rename: neither a run that dies nor a machine that loses its power leaves half a file. All but `run.json` are
the same bytes for the same seed and library versions.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simserve.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

    from simserve.metrics.result import Result

SUMMARY, RUN, SCENARIO = "summary.json", "run.json", "scenario.yaml"
# Only of engines whose KV memory is contiguous; only where a prefix was found in a cache; where the record
# came with what priced its steps.
KV_MEMORY, PREFIXES, TIME_PARTS = "kv_memory.parquet", "prefixes.parquet", "time_parts.parquet"
# The last bytes of every Parquet file.
_PARQUET_END = b"PAR1"
TABLES = ("requests.parquet", "steps.parquet", "step_times.parquet", "spans.parquet")


def write_run(result: Result, folder: Path) -> Path:
    """Write a result into `folder`, replacing a run that is there, and return the folder.

    Args:
        result: What to write.
        folder: Made if absent. Files in it that no run writes are kept.

    Raises:
        InputError: If `folder` is not empty and holds no run, or cannot be written.
    """
    check_output(folder)
    with refuse_io_errors(folder):
        folder = folder.absolute()
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        try:
            _write_files(result, fresh)
            _sync(fresh)
            _put_in_place(fresh, folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return folder


def check_output(folder: Path) -> None:
    """Refuse a folder that a run may not be written into; to be asked before the work is done.

    Raises:
        InputError: If `folder` is a file, or is not empty and holds no run.
    """
    with refuse_io_errors(folder):
        if not folder.exists():
            return
        if not folder.is_dir():
            raise InputError("is a file; expected a folder (new, empty, or holding a run)", file=str(folder))
        if any(folder.iterdir()) and not holds_run(folder):
            raise InputError(
                "is not empty and holds no run; expected a new or empty folder, or one of an earlier run",
                file=str(folder),
            )


def holds_run(folder: Path) -> bool:
    """Return whether `folder` holds a run that simserve wrote."""
    try:
        read_summary(folder)
    except InputError:
        return False
    return True


def holds_whole_run(folder: Path) -> bool:
    """Return whether `folder` holds a run and all of its tables are whole, as far as their ends tell."""
    return holds_run(folder) and all(_is_whole(folder / name) for name in TABLES)


def _is_whole(table: Path) -> bool:
    try:
        with table.open("rb") as file:
            file.seek(-len(_PARQUET_END), os.SEEK_END)
            return file.read() == _PARQUET_END
    except OSError:
        return False


def read_summary(folder: Path) -> dict[str, Any]:
    """Return the summary of the run in `folder`.

    Raises:
        InputError: If it holds no run.
    """
    try:
        summary = json.loads((folder / SUMMARY).read_text())
    except (OSError, ValueError):
        summary = None
    if not isinstance(summary, dict) or "simserve_version" not in summary:
        raise InputError("holds no run; expected a folder written by `simserve run --out`", file=str(folder))
    return summary


def _write_files(result: Result, folder: Path) -> None:
    tables = (
        result.requests_table(),
        result.steps_table(),
        result.step_times_table(),
        result.spans_table(),
    )
    for name, table in zip(TABLES, tables, strict=True):
        _write_table(table, folder / name)
    others = {
        KV_MEMORY: result.kv_memory_table(),
        PREFIXES: result.prefix_table(),
        TIME_PARTS: result.time_parts_table(),
    }
    for name, some in others.items():
        if some is not None:
            _write_table(some, folder / name)
    (folder / SUMMARY).write_text(result.summary_json())
    info: dict[str, Any] = result.info.as_dict() if result.info else {}
    (folder / RUN).write_text(json.dumps(info, indent=2) + "\n")
    (folder / SCENARIO).write_text(result.scenario_yaml)


def _write_table(table: pa.Table, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    coded = [field.name for field in table.schema if pa.types.is_dictionary(field.type)]
    # LZ4 without statistics: a million steps cost tens of milliseconds, where zstd and dictionaries of
    # floats (pyarrow's defaults) would cost more than the simulation of those steps.
    pq.write_table(table, path, compression="lz4", use_dictionary=coded, write_statistics=False)


def _sync(folder: Path) -> None:
    """Wait until a folder and its files are on the disk; all at once, or each would wait for the others."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor() as pool:
        list(pool.map(_sync_path, (*folder.iterdir(), folder)))


def _sync_path(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _put_in_place(fresh: Path, folder: Path) -> None:
    """Let `fresh` take the place of `folder`, which is absent, empty or holds a run."""
    if not folder.exists():
        fresh.rename(folder)
        return
    written = {KV_MEMORY, PREFIXES, TIME_PARTS, *(path.name for path in fresh.iterdir())}
    for path in [path for path in folder.iterdir() if path.name not in written]:
        path.rename(fresh / path.name)
    old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
    folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def refuse_io_errors(path: Path) -> Iterator[None]:
    """Tell that a file or folder cannot be written (no room, no permission, ...) as what it is: bad input.

    Raises:
        InputError: In place of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", file=str(path)) from error
