"""`simserve sweep`: a base scenario along axes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from simserve.cli.executor_options import CountLine, choose_executor
from simserve.errors import SimserveError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simserve.study.points import Point
    from simserve.study.sweep import SweepRun

# Figures of the table on the screen, of those that the results hold.
_SHOWN = (
    "request_throughput",
    "output_throughput",
    "p90_ttft_ms",
    "p90_tpot_ms",
    "slo_attainment",
    "usd_per_hour",
    "failed",
)
_MOST_ROWS = 40


def sweep_scenarios(
    file: str,
    out: str,
    *,
    executor: str,
    workers: int | None,
    address: str | None,
    prices: str | None,
    price: Sequence[str],
    as_json: bool,
    dry_run: bool,
) -> None:
    """Run a sweep's points and print a table; exit 1 if a point failed or the sweep was stopped.

    Args:
        file: The sweep's file.
        out: Folder of the results.
        executor, workers, address: Where the points run.
        prices, price: A file of prices, and `NAME=USD` each.
        as_json: Print one JSON object.
        dry_run: List the points and run none.

    Raises:
        InputError: If the file, a point's scenario or the folder is wrong.
    """
    from simserve.data_files import find_file
    from simserve.study.points import expand_points
    from simserve.study.prices import read_prices
    from simserve.study.sweep import run_sweep
    from simserve.study.sweep_file import read_sweep_file

    path = Path(file) if Path(file).exists() else find_file(file)
    points = list(expand_points(read_sweep_file(path), path.parent))
    if dry_run:
        _print_points(points, as_json=as_json)
        return
    known = read_prices(prices, price)
    chosen = choose_executor(executor, workers, address)
    line = CountLine("points", quiet=as_json)
    try:
        run = run_sweep(points, Path(out), chosen, progress=line, prices=known)
    finally:
        line.wipe()
        chosen.close()
    if as_json:
        print(json.dumps(_as_dict(run), indent=2))
    else:
        _print_results(run)
    for identity, reason in run.failed.items():
        print(f"simserve: point {identity} failed: {reason}", file=sys.stderr)
    if run.stopped:
        print("simserve: stopped; the same command goes on from here", file=sys.stderr)
    if run.stopped or run.failed:
        raise SystemExit(SimserveError.exit_status)


def _print_points(points: Sequence[Point], *, as_json: bool) -> None:
    if as_json:
        found = [{"point": p.number, "identity": p.identity, "seed": p.seed, **p.settings} for p in points]
        print(json.dumps({"points": found}, indent=2))
        return
    for point in points:
        settings = ", ".join(f"{key}={value}" for key, value in point.settings.items())
        print(f"{point.number:>5}  {point.identity}  seed {point.seed}  {settings}")


def _as_dict(run: SweepRun) -> dict[str, object]:
    from simserve.study.sweep import results_table

    rows = results_table(run).to_pylist()
    return {
        "folder": str(run.folder), "points": len(run.points), "reused": run.reused, "failed": run.failed,
        "stopped": run.stopped, "results": rows,
    }  # fmt: skip


def _print_results(run: SweepRun) -> None:
    from simserve.report.table import format_number, print_table
    from simserve.study.sweep import RESULTS, results_table

    rows = results_table(run).to_pylist()
    keys = list(run.points[0].settings) if run.points else []
    shown = [name for name in _SHOWN if any(row.get(name) is not None for row in rows)]
    table = [
        [str(row["point"]), str(row["seed"]), *(str(row[key]) for key in keys), str(row["status"])]
        + [format_number(row.get(name)) for name in shown]
        for row in rows[:_MOST_ROWS]
    ]
    print_table(("point", "seed", *keys, "status", *shown), table)
    if len(rows) > _MOST_ROWS:
        print(f"... and {len(rows) - _MOST_ROWS:,} more")
    done = sum(row["status"] == "done" for row in rows)
    before = f", {run.reused:,} of them before" if run.reused else ""
    print(f"{done:,} of {len(rows):,} points done{before}; results in {run.folder / RESULTS}")
