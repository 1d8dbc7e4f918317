"""`make bench`: requests per CPU second of every load, and their cost in bare SimPy timeouts.

Writes build/bench.json and prints a table. Options: `--load NAME` (more than once if wanted), `--million`,
`--repeat N`.
"""

from __future__ import annotations

import argparse
import json
import sys
from statistics import median
from typing import Any

from loads import LOADS, ROOT, Load, Measurement, measure_few, measure_load, trace_overrides
from timeouts import measure_timeout_us

from simserve.report.table import format_table


def main() -> None:
    """Measure the chosen loads."""
    options = _parse()
    timeouts: list[float] = []
    results: dict[str, dict[str, float]] = {}
    for load in LOADS:
        if options.load and load.name not in options.load:
            continue
        if load.slow and not (options.million or load.name in options.load):
            continue
        overrides = trace_overrides(load)
        if overrides is None:
            print(f"{load.name}: left out, its trace is not here; set SIMSERVE_DATA", file=sys.stderr)
            continue
        timeouts.append(measure_timeout_us())
        results[load.name] = _measure(load, overrides, options.repeat)
        print(f"{load.name}: {results[load.name]['requests_per_cpu_s']:,.0f} requests per CPU second")
    report = _report(median(timeouts), results)
    target = ROOT / "build" / "bench.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(report, indent=2) + "\n")
    _print(report)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--load", action="append", default=[], choices=[load.name for load in LOADS])
    parser.add_argument("--million", action="store_true", help="also run 64x1m")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each load; the median counts")
    return parser.parse_args()


def _measure(load: Load, overrides: list[str], repeats: int) -> dict[str, float]:
    """Return a load's figures, without the ones that need the SimPy timeout."""
    scenario = ROOT / "scenarios" / "benchmarks" / f"{load.name}.yaml"
    repeats = 1 if load.slow else repeats
    runs = [measure_load(scenario, overrides) for _ in range(repeats)]
    base = Measurement(0, 0.0, 0.0, 0.0, 0.0)
    if load.marginal:
        few = [measure_few(load, scenario, overrides) for _ in range(repeats)]
        base = Measurement(few[0].requests, median(run.cpu_s for run in few), 0.0, 0.0, 0.0)
    cpu_s = median(run.cpu_s for run in runs) - base.cpu_s
    return {
        "requests_per_cpu_s": (runs[0].requests - base.requests) / cpu_s,
        "peak_rss_mib": max(run.peak_rss_mib for run in runs),
        "wall_s": median(run.wall_s for run in runs),
        "share_in_stretches": runs[0].share_in_stretches,
    }


def _report(timeout_us: float, results: dict[str, dict[str, float]]) -> dict[str, Any]:
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
    return {"simpy_timeout_us": round(timeout_us, 4), "loads": loads}


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
    print(f"\none SimPy timeout: {report['simpy_timeout_us']:.3f} us of CPU\n")
    print(format_table(headers, rows))


if __name__ == "__main__":
    main()
