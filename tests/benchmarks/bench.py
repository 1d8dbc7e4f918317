"""`make bench`: requests per CPU second of every load, and their cost in bare SimPy timeouts.

Measures the compiled package where `make compile` has built it, after a check that it writes the same bytes
as plain Python; else, or with `--plain`, plain Python. Writes build/bench.json and prints a table. Options:
`--load NAME` (more than once if wanted), `--million`, `--kinds` (64x100k on every engine kind), `--repeat N`,
`--plain`; `--studies` measures a sweep and a capacity search instead, and writes build/bench-studies.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from builds import CHECKS, COMPILED, PLAIN, ROOT, compiled_is_current, differing_files, files_of
from loads import KINDS_LOAD, LOADS, Load, Measurement, kind_loads, measure_few, measure_load, trace_overrides
from studies import measure_studies
from timeouts import measure_timeout_us

from simserve.report.table import format_table


def main() -> None:
    """Measure the chosen loads."""
    options = _parse()
    package = _choose_package(options.plain)
    if options.studies:
        _measure_studies(package)
        return
    timeouts: list[float] = []
    results: dict[str, dict[str, float]] = {}
    for load in _chosen(options):
        overrides = trace_overrides(load)
        if overrides is None:
            print(f"{load.name}: left out, its trace is not here; set SIMSERVE_DATA", file=sys.stderr)
            continue
        timeouts.append(measure_timeout_us())
        results[load.name] = _measure(load, overrides, options.repeat, package)
        print(f"{load.name}: {results[load.name]['requests_per_cpu_s']:,.0f} requests per CPU second")
    report = _report("plain" if package == PLAIN else "compiled", median(timeouts), results)
    _write(report, "bench.json")
    _print(report)


def _measure_studies(package: Path) -> None:
    """Measure studies, print their times and write them."""
    found = measure_studies(package)
    report = {each.name: {**asdict(each), "share_of_lone": each.share_of_lone} for each in found}
    _write(report, "bench-studies.json")
    rows = [
        [
            each.name,
            f"{each.runs}",
            f"{each.wall_s:.1f}",
            f"{each.cpu_s / each.runs:.3f}",
            f"{each.share_of_lone:.0%}",
        ]
        for each in found
    ]
    print(format_table(("study", "runs of 2,000", "wall s", "CPU s a run", "of a lone run"), rows))


def _write(report: dict[str, Any], name: str) -> None:
    target = ROOT / "build" / name
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(report, indent=2) + "\n")


def _chosen(options: argparse.Namespace) -> list[Load]:
    """Return the loads to measure; those of the engine kinds after a run of vLLM's."""
    wanted = [load for load in LOADS if load.name in options.load]
    if options.kinds:
        return [*(wanted or [load for load in LOADS if load.name == KINDS_LOAD]), *kind_loads()]
    return wanted or [load for load in LOADS if options.million or not load.slow]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--load", action="append", default=[], choices=[load.name for load in LOADS])
    parser.add_argument("--million", action="store_true", help="also run 64x1m")
    parser.add_argument("--kinds", action="store_true", help=f"{KINDS_LOAD} on every engine kind")
    parser.add_argument("--studies", action="store_true", help="a sweep and a capacity search")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each load; the median counts")
    parser.add_argument("--plain", action="store_true", help="measure plain Python, even if it is compiled")
    return parser.parse_args()


def _choose_package(plain: bool) -> Path:
    """Return the folder of the package to measure.

    Raises:
        SystemExit: If the compiled package does not write what plain Python writes.
    """
    if plain or not compiled_is_current():
        print("measuring plain Python")
        return PLAIN
    for check in CHECKS:
        different = differing_files(files_of(check, PLAIN), files_of(check, COMPILED))
        if different:
            raise SystemExit(f"{check.name}: compiled and plain Python differ in {', '.join(different)}")
    print(f"measuring the compiled package; it wrote the bytes of plain Python in {len(CHECKS)} scenarios")
    return COMPILED


def _measure(load: Load, overrides: list[str], repeats: int, package: Path) -> dict[str, float]:
    """Return a load's figures, without the ones that need the SimPy timeout."""
    scenario = load.scenario
    repeats = 1 if load.slow else repeats
    runs = [measure_load(scenario, overrides, package) for _ in range(repeats)]
    base = Measurement(0, 0.0, 0.0, 0.0, 0.0)
    if load.marginal:
        few = [measure_few(load, scenario, overrides, package) for _ in range(repeats)]
        base = Measurement(few[0].requests, median(run.cpu_s for run in few), 0.0, 0.0, 0.0)
    cpu_s = median(run.cpu_s for run in runs) - base.cpu_s
    return {
        "requests_per_cpu_s": (runs[0].requests - base.requests) / cpu_s,
        "peak_rss_mib": max(run.peak_rss_mib for run in runs),
        "wall_s": median(run.wall_s for run in runs),
        "share_in_stretches": runs[0].share_in_stretches,
    }


def _report(build: str, timeout_us: float, results: dict[str, dict[str, float]]) -> dict[str, Any]:
    loads = {}
    for name, figures in results.items():
        request_us = 1e6 / figures["requests_per_cpu_s"]
        loads[name] = {
            "requests_per_cpu_s": round(figures["requests_per_cpu_s"], 1),
            "timeouts_per_request": round(request_us / timeout_us, 2),
            "peak_rss_mib": round(figures["peak_rss_mib"], 1),
            "wall_s": round(figures["wall_s"], 3),
            "share_in_stretches": round(figures["share_in_stretches"], 4),
        }
    return {"build": build, "simpy_timeout_us": round(timeout_us, 4), "loads": loads}


def _print(report: dict[str, Any]) -> None:
    rows = [
        [
            name,
            f"{figures['requests_per_cpu_s']:,.0f}",
            f"{figures['timeouts_per_request']:,.1f}",
            f"{figures['peak_rss_mib']:,.0f}",
            f"{figures['wall_s']:,.2f}",
            f"{figures['share_in_stretches']:.1%}",
        ]
        for name, figures in report["loads"].items()
    ]
    headers = ("load", "requests per CPU s", "SimPy timeouts each", "peak MiB", "wall s", "in stretches")
    timeout_us = report["simpy_timeout_us"]
    print(f"\n{report['build']} package; one SimPy timeout: {timeout_us:.3f} us of CPU\n")
    print(format_table(headers, rows))


if __name__ == "__main__":
    main()
