"""`sweep`: run every point of a sweep once, wherever it was stopped before, and tabulate the results."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from simserve.errors import InputError
from simserve.metrics.writer import holds_run, holds_whole_run, read_summary, refuse_io_errors
from simserve.study.executor import Died, Executor
from simserve.study.point_task import Task, failure_path, read_failure, record_failure, run_task
from simserve.study.points import Point
from simserve.study.prices import describe_hardware
from simserve.study.sweep_lock import hold_folder

if TYPE_CHECKING:
    import pyarrow as pa

POINTS, RESULTS, MARK = "points", "results.parquet", "sweep.json"
# While points run the table is written anew so often, and for this share of the time at most.
_TABLE_EVERY_S, _TABLE_SHARE = 2.0, 0.05
# (points that have ended, of all)
Progress = Callable[[int, int], None]


@dataclass(slots=True)
class SweepRun:
    """What a sweep did.

    Attributes:
        points: Of the sweep, in order.
        folder: Its folder.
        prices: USD an hour of one accelerator, by its name, before the catalog's.
        reused: How many had been run before.
        failed: Reasons by the identity of the points that failed.
        stopped: Whether it was interrupted.
        figures: What the table has of the points that are done, by identity; filled as it is written.
    """

    points: Sequence[Point]
    folder: Path
    prices: Mapping[str, float] = field(default_factory=dict)
    reused: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    stopped: bool = False
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)

    def point_folder(self, point: Point) -> Path:
        """Return the folder of a point's run."""
        return self.folder / POINTS / point.identity


def run_sweep(
    points: Sequence[Point],
    folder: Path,
    executor: Executor,
    *,
    progress: Progress | None = None,
    prices: Mapping[str, float] | None = None,
) -> SweepRun:
    """Run the points that have no result yet, and write `results.parquet`.

    Every result is in its folder the moment its point has ended, so that a sweep that is killed goes on where
    it was. A point that failed is tried again by the next sweep. While points run the table is there too,
    with "missing" for those that have not ended.

    Args:
        points: What to run.
        folder: New, empty, or of a sweep; results that are there already count.
        executor: Where to run.
        progress: Called with the number of points that have ended and of all.
        prices: USD an hour of one accelerator, by its name, before the catalog's; for the table alone.

    Raises:
        InputError: If the folder holds something else, or another sweep is at work in it.
    """
    prepare_folder(folder)
    run = SweepRun(points, folder, prices or {})
    with hold_folder(folder):
        tasks = [
            Task(point.identity, point.text, str(run.point_folder(point).absolute()))
            for point in {point.identity: point for point in points}.values()
            if not holds_whole_run(run.point_folder(point))
        ]
        run.reused = len({point.identity for point in points}) - len(tasks)
        try:
            _run_tasks(run, tasks, executor, progress)
        except KeyboardInterrupt:
            run.stopped = True
        else:
            _remove_halves(folder / POINTS)
        write_results(run)
    return run


def _run_tasks(run: SweepRun, tasks: Sequence[Task], executor: Executor, progress: Progress | None) -> None:
    if not tasks:
        return
    queue = iter(tasks)
    keep_table = _table_keeper(run)
    ended = executor.run(run_task, lambda: next(queue, None))
    try:
        for number, (task, outcome) in enumerate(ended, 1):
            error = outcome.reason if isinstance(outcome, Died) else outcome.error
            if isinstance(outcome, Died):
                record_failure(Path(task.folder), error)
            if error:
                run.failed[task.identity] = error
            else:
                failure_path(Path(task.folder)).unlink(missing_ok=True)
            keep_table()
            if progress is not None:
                progress(run.reused + number, run.reused + len(tasks))
    finally:
        # What is under way ends with the iterator; one that is left to the garbage collector may not.
        close = getattr(ended, "close", None)
        if close is not None:
            close()


def _table_keeper(run: SweepRun) -> Callable[[], None]:
    """Write the table, and return a function that writes it again if the last time was long enough ago."""
    write_results(run)
    due_s = monotonic() + _TABLE_EVERY_S

    def keep_table() -> None:
        nonlocal due_s
        begun_s = monotonic()
        if begun_s >= due_s:
            write_results(run)
            ended_s = monotonic()
            due_s = ended_s + max(_TABLE_EVERY_S, (ended_s - begun_s) / _TABLE_SHARE)

    return keep_table


def prepare_folder(folder: Path) -> None:
    """Make a sweep's folder, or see that it is one.

    Raises:
        InputError: If it is a file, cannot be made, or holds something else.
    """
    with refuse_io_errors(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not _is_sweep(folder):
            raise InputError(
                "holds no sweep; expected a new or empty folder, or one of an earlier sweep", file=str(folder)
            )
        (folder / POINTS).mkdir(parents=True, exist_ok=True)
        _write_whole(folder / MARK, json.dumps({"kind": "simserve sweep"}).encode() + b"\n")


def results_table(run: SweepRun) -> pa.Table:
    """Return a row a point: its place, seed, settings and status, and every figure of its summary.

    The table depends on the points and their results alone, not on the order in which they ended.
    """
    import pyarrow as pa

    rows = list(_rows(run))
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({name: _column([row.get(name) for row in rows]) for name in names})


def write_results(run: SweepRun) -> None:
    """Write `results.parquet` into the sweep's folder, whole or not at all.

    Raises:
        InputError: If it cannot be written.
    """
    import pyarrow.parquet as pq

    table, path = results_table(run), run.folder / RESULTS
    fresh = path.with_name(f".{RESULTS}.tmp")
    with refuse_io_errors(path):
        pq.write_table(table, fresh, compression="zstd")
        fresh.replace(path)


def _rows(run: SweepRun) -> Iterator[dict[str, Any]]:
    for point in run.points:
        folder = run.point_folder(point)
        row = {"point": point.number, "seed": point.seed, **point.settings, "identity": point.identity}
        if point.identity not in run.figures and holds_run(folder):
            run.figures[point.identity] = _figures_of(read_summary(folder), run.prices)
        if point.identity in run.figures:
            yield {**row, "status": "done", "reason": "", **run.figures[point.identity]}
        else:
            reason = read_failure(folder)
            yield {**row, "status": "failed" if reason else "missing", "reason": reason}


def _figures_of(summary: Mapping[str, Any], prices: Mapping[str, float]) -> dict[str, Any]:
    figures = {key: value for key, value in summary.items() if _is_scalar(value) and key != "seed"}
    return {**describe_hardware(summary, prices), **figures}


def _column(values: list[Any]) -> pa.Array:
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    # A figure that no point has is one without values, not a column of another kind.
    if not kinds or (kinds <= {int, float} and float in kinds):
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if len(kinds) > 1:
        return pa.array([None if value is None else str(value) for value in values], pa.string())
    return pa.array([json.dumps(value) if isinstance(value, list | dict) else value for value in values])


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _is_sweep(folder: Path) -> bool:
    try:
        content = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("kind") == "simserve sweep"


def _remove_halves(points: Path) -> None:
    """Remove what processes that died had not finished; nobody is at work any more."""
    for half in points.glob(".*.tmp-*"):
        shutil.rmtree(half, ignore_errors=True)


def _write_whole(path: Path, content: bytes) -> None:
    fresh = path.with_name(f".{path.name}.tmp")
    fresh.write_bytes(content)
    fresh.replace(path)
