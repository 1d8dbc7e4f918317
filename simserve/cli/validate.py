"""`simserve validate`: runs of real servers, simulated and compared."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simserve.errors import InputError, SimserveError

if TYPE_CHECKING:
    from simserve.study.validate import Validation


def validate_runs(
    runs: Sequence[str],
    *,
    scenario: str | None,
    cost: str,
    tables: Sequence[str],
    as_json: bool,
    html: str | None,
    strict: bool,
) -> None:
    """Simulate each run and print both sides; what cannot be read or simulated is told and left out.

    The exit status is 2 if a run was left out; with `strict` 1 if a figure is outside its bound.
    """
    section = cost_section(cost, tables)
    if html is not None:
        from simserve.report.validation_page import check_plotly

        check_plotly()
    done: list[Validation] = []
    skipped: list[tuple[str, SimserveError]] = []
    for run in runs:
        try:
            validation = _validate(run, scenario, section, quiet=as_json)
        except InputError as error:
            skipped.append((run, error))
            continue
        done.append(validation)
        if not as_json:
            _print(validation)
        if html is not None:
            _write_page(validation, Path(html), quiet=as_json)
    if as_json:
        found: dict[str, Any] = {"runs": [each.as_dict() for each in done]}
        found["skipped"] = [{"run": run, "reason": str(error)} for run, error in skipped]
        print(json.dumps(found, indent=2))
    elif len(done) > 1:
        from simserve.report.validation_text import print_overview

        print_overview(done)
    _exit(done, skipped, strict=strict)


def show_study(
    runs: Sequence[str], *, effects: bool, cost: str, tables: Sequence[str], as_json: bool, alone: bool
) -> None:
    """Print what each modelled effect is worth, or each run's errors without any run of its model.

    Args:
        runs: Folders of runs.
        effects: The former.
        cost, tables, as_json: For the latter.
        alone: Whether no option was given that only goes with a comparison.
    """
    if not alone or (effects and (cost != "analytic" or tables or as_json)):
        raise InputError(
            "--leave-one-out goes with --cost, --tables and --json only, and --effects with no other option"
        )
    if effects:
        from simserve.report.validation_text import print_effects
        from simserve.study.effects import measure_effects

        print_effects(measure_effects(runs))
        return
    from simserve.report.validation_text import print_left_out
    from simserve.study.left_out import leave_models_out

    found = leave_models_out(runs, cost_section(cost, tables))
    if as_json:
        print(json.dumps({"runs": [each.as_dict() for each in found]}, indent=2))
    else:
        print_left_out(found)


def cost_section(cost: str, tables: Sequence[str]) -> dict[str, Any]:
    """Return the `cost` section of the options; kernels are those of `tables`, or of aiconfigurator-core."""
    if cost == "analytic":
        if tables:
            raise InputError("--tables are kernels to look up; they go with --cost measured")
        return {"kind": "analytic"}
    return {
        "kind": cost,
        "tables": [str(Path(table).resolve()) for table in tables],
        "aic": None if tables else "vllm",
    }


def _validate(run: str, scenario: str | None, cost: dict[str, Any], *, quiet: bool) -> Validation:
    from simserve.report.progress import ProgressLine
    from simserve.study.validate import validate_result, validate_run

    path = Path(run)
    if path.suffix == ".json" and scenario is None:
        raise InputError("a benchmark's result needs --scenario, the servers that it ran on", file=run)
    if path.suffix != ".json" and not path.is_dir():
        raise InputError("no such folder; expected one with run.yaml and measured.csv.gz", file=run)
    line = ProgressLine()
    progress = line if line.shown and not quiet else None
    try:
        if path.suffix != ".json":
            return validate_run(path, cost, progress=progress)
        from simserve.scenario.loader import load_scenario

        assert scenario is not None
        return validate_result(path, load_scenario(scenario), cost, progress=progress)
    finally:
        line.close()


def _print(validation: Validation) -> None:
    from simserve.report.validation_text import print_validation

    print_validation(validation)
    print()


def _write_page(validation: Validation, folder: Path, *, quiet: bool) -> None:
    from simserve.report.validation_page import write_page

    path = write_page(validation, folder)
    if not quiet:
        print(f"written to {path}")


def _exit(done: Sequence[Validation], skipped: Sequence[tuple[str, SimserveError]], *, strict: bool) -> None:
    for run, error in skipped:
        named = str(error).startswith(run)
        what = f"{error}; it is left out" if named else f"{run} is left out: {error}"
        print(f"simserve: error: {what}", file=sys.stderr)
    if skipped:
        raise SystemExit(2)
    if strict and any(holds is False for each in done for holds in each.verdicts().values()):
        raise SystemExit(1)
