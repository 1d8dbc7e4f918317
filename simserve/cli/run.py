"""`simserve run` and `simserve compare`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simserve.errors import InputError, SimserveError

if TYPE_CHECKING:
    from simserve.metrics.result import Result


def run_once(
    scenario: str, overrides: list[str], out: str | None, *, as_json: bool, check: bool, quiet: bool
) -> None:
    """Run a scenario, write it to `out` and print its summary; exit 1 if it was stopped."""
    if out is not None:
        _check_output(Path(out))
    result = _simulate(scenario, overrides, check=check, quiet=quiet or as_json)
    if out is not None:
        result.write(out)
    if as_json:
        print(result.summary_json(), end="")
    elif not quiet:
        from simserve.report.summary_text import print_summary

        print_summary(result.summary)
        if out is not None:
            print(f"written to     {out}")
    _exit_if_partial(result)


def run_seeds(
    scenario: str,
    overrides: list[str],
    seeds: int,
    out: str | None,
    *,
    as_json: bool,
    check: bool,
    quiet: bool,
) -> None:
    """Run a scenario with consecutive seeds, each into its own folder of `out`, and print intervals."""
    from simserve.report.intervals import intervals, print_intervals
    from simserve.scenario.loader import load_scenario

    first = load_scenario(scenario, overrides).seed
    folders = [Path(out) / f"seed-{seed}" if out else None for seed in range(first, first + seeds)]
    for folder in folders:
        if folder is not None:
            _check_output(folder)
    summaries = []
    for seed, folder in zip(range(first, first + seeds), folders, strict=True):
        result = _simulate(scenario, [*overrides, f"seed={seed}"], check=check, quiet=quiet or as_json)
        if folder is not None:
            result.write(folder)
        _exit_if_partial(result)
        summaries.append(result.summary)
    if as_json:
        found = {key: interval._asdict() for key, interval in intervals(summaries).items()}
        _print_json({"seeds": list(range(first, first + seeds)), "intervals": found, "runs": summaries})
    elif not quiet:
        print_intervals(summaries)


def compare_runs(first: str, second: str, overrides: list[str], *, as_json: bool) -> None:
    """Print two summaries side by side; each is of a scenario, which is run, or of a run's folder."""
    from simserve.report.comparison import print_comparison, relative_differences

    summaries = [_summary_of(source, overrides, quiet=as_json) for source in (first, second)]
    if as_json:
        differences = relative_differences(*summaries)
        _print_json({"a": summaries[0], "b": summaries[1], "relative_difference": differences})
    else:
        print_comparison(_short_names(first, second), summaries[0], summaries[1])


def explain_scenario(scenario: str, overrides: list[str], what: str, *, as_json: bool) -> None:
    """Print, line by line, what a pool's memory holds or what a step's time consists of."""
    from simserve.scenario.loader import load_scenario
    from simserve.simulation import explain

    lines = explain(load_scenario(scenario, overrides), what)
    if as_json:
        _print_json({"explain": what, "lines": lines})
    else:
        print("\n".join(lines))


def _simulate(scenario: str, overrides: list[str], *, check: bool, quiet: bool) -> Result:
    from simserve.report.progress import ProgressLine
    from simserve.scenario.loader import load_scenario

    loaded = load_scenario(scenario, overrides)
    from simserve.simulation import simulate  # after the scenario: a mistake in it is told sooner

    progress = ProgressLine()
    try:
        return simulate(loaded, progress=progress if progress.shown and not quiet else None, check=check)
    finally:
        progress.close()


def _summary_of(source: str, overrides: list[str], *, quiet: bool) -> dict[str, Any]:
    folder = Path(source)
    if not folder.is_dir():
        result = _simulate(source, overrides, check=False, quiet=quiet)
        _exit_if_partial(result)
        return result.summary
    from simserve.metrics.writer import read_summary

    if overrides:
        raise InputError(f"--set changes a scenario, and this is the folder of a run: {source}")
    return read_summary(folder)


def _check_output(folder: Path) -> None:
    from simserve.metrics.writer import check_output

    check_output(folder)


def _short_names(first: str, second: str) -> tuple[str, str]:
    """Return the names without their folders, or whole where that leaves them equal."""
    names = Path(first).name, Path(second).name
    return names if names[0] != names[1] else (first, second)


def _exit_if_partial(result: Result) -> None:
    if result.partial:
        print("simserve: stopped before the end; the figures cover what was complete", file=sys.stderr)
        raise SystemExit(SimserveError.exit_status)


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(value, indent=2))
