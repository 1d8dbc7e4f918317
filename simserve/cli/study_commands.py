"""The options of the commands about many runs: validate and sweep."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from simserve.cli.app import Json, app
from simserve.cli.choices import one_of, words
from simserve.cli.executor_options import Address, Price, Prices, Runs, Where, Workers


class Pricing(StrEnum):
    """Where `validate` takes step times from."""

    ANALYTIC = "analytic"
    MEASURED = "measured"


@app.command(epilog="Example: simserve validate RUN_DIR --html build/validation")
def validate(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN_DIR...",
            help="Folders with run.yaml and measured.csv.gz, or results of vllm bench serve --save-detailed.",
        ),
    ],
    scenario: Annotated[
        str | None, typer.Option(metavar="FILE", help="The servers that a vllm bench result was measured on.")
    ] = None,
    cost: Annotated[
        Pricing,
        typer.Option(
            metavar=words(Pricing), parser=one_of("--cost", Pricing), help="Where step times come from."
        ),
    ] = Pricing.ANALYTIC,
    tables: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="Measured kernels; without it those of aiconfigurator-core."),
    ] = None,
    json: Json = False,
    html: Annotated[
        str | None, typer.Option(metavar="DIR", help="Write a page of plots for each run into this folder.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if a figure is outside its bound.")
    ] = False,
    left_out: Annotated[
        bool,
        typer.Option("--leave-one-out", help="Errors with constants set by the runs of other models only."),
    ] = False,
    effects: Annotated[
        bool, typer.Option("--effects", help="Errors with each modelled effect switched off in turn.")
    ] = False,
) -> None:
    """Simulate what real servers ran, and compare."""
    if left_out or effects:
        from simserve.cli.validate import show_study

        alone = not (html or strict or scenario or (left_out and effects))
        show_study(runs, effects=effects, cost=cost.value, tables=tables or (), as_json=json, alone=alone)
        return
    from simserve.cli.validate import validate_runs

    validate_runs(
        runs,
        scenario=scenario,
        cost=cost.value,
        tables=tables or (),
        as_json=json,
        html=html,
        strict=strict,
    )


@app.command(epilog="Example: simserve sweep scenarios/sweeps/batch-limits.yaml --out build/sweep")
def sweep(
    file: Annotated[str, typer.Argument(metavar="SWEEP.yaml", help="The base scenario and its axes.")],
    out: Annotated[str, typer.Option(metavar="DIR", help="Folder of the results; an earlier sweep goes on.")],
    executor: Runs = Where.LOCAL,
    workers: Workers = None,
    address: Address = None,
    prices: Prices = None,
    price: Price = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the points and run none.")] = False,
    json: Json = False,
) -> None:
    """Run a scenario along axes, in parallel. A sweep that was stopped goes on where it was."""
    from simserve.cli.sweep import sweep_scenarios

    sweep_scenarios(
        file, out, executor=executor.value, workers=workers, address=address,
        prices=prices, price=price or (), as_json=json, dry_run=dry_run,
    )  # fmt: skip
