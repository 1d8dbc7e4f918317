"""`simserve run` and `simserve compare`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from simserve.errors import InputError, SimserveError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simserve.metrics.result import Result
    from simserve.report.comparison import RunSide


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
    summaries: list[dict[str, Any]] = []
    for seed, folder in zip(range(first, first + seeds), folders, strict=True):
        result = _simulate(scenario, [*overrides, f"seed={seed}"], check=check, quiet=quiet or as_json)
        if folder is not None:
            result.write(folder)
        if result.partial:
            _exit_without_figures(
                f"during seed {seed}", [str(each) for each in folders[: len(summaries) + 1] if each]
            )
        summaries.append(result.summary)
    if as_json:
        found = {key: interval._asdict() for key, interval in intervals(summaries).items()}
        _print_json({"seeds": list(range(first, first + seeds)), "intervals": found, "runs": summaries})
    elif not quiet:
        print_intervals(summaries)


def compare_runs(first: str, second: str, overrides: list[str], *, as_json: bool) -> None:
    """Print what differs between two runs; each is of a scenario, which is run, or a run's folder."""
    from simserve.report.comparison import compare_settings, print_comparison, relative_differences

    names = _short_names(first, second)
    a, b = (
        _side_of(source, name, overrides, quiet=as_json)
        for source, name in zip((first, second), names, strict=True)
    )
    if as_json:
        found = {"settings": compare_settings(a, b), "a": a.summary, "b": b.summary}
        _print_json(found | {"relative_difference": relative_differences(a.summary, b.summary)})
    else:
        print_comparison(a, b)


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


def _side_of(source: str, name: str, overrides: list[str], *, quiet: bool) -> RunSide:
    import yaml

    from simserve.report.comparison import RunSide

    folder = Path(source)
    if not folder.is_dir():
        result = _simulate(source, overrides, check=False, quiet=quiet)
        if result.partial:
            _exit_without_figures(f"during {name}")
        return RunSide(name, result.summary, yaml.safe_load(result.scenario_yaml))
    from simserve.report.run_folder import RunFolder

    if overrides:
        raise InputError(f"--set changes a scenario, and this is the folder of a run: {source}")
    run = RunFolder.read(folder)
    return RunSide(name, run.summary, run.scenario)


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


def _exit_without_figures(when: str, written: Sequence[str] = ()) -> NoReturn:
    """End where one of several runs was stopped: figures of part of them would say nothing."""
    kept = f"written: {', '.join(written)} (the last is partial)" if written else "nothing was written"
    print(f"simserve: stopped {when}; {kept}", file=sys.stderr)
    raise SystemExit(SimserveError.exit_status)


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(value, indent=2))
