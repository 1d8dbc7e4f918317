"""The options of the commands about many runs: validate, sweep, capacity, recommend."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from simserve.cli.app import Json, Overrides, app


class Where(StrEnum):
    """Where the runs of a study take place."""

    LOCAL = "local"
    RAY = "ray"


class Objective(StrEnum):
    """What `recommend` makes least."""

    COST = "cost"
    GPUS = "gpus"


class Pricing(StrEnum):
    """Where `validate` takes step times from."""

    ANALYTIC = "analytic"
    MEASURED = "measured"


@app.command(epilog="Example: simserve validate runs/h100-qwen3-14b runs/h100-llama-2-7b --html out")
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
    cost: Annotated[Pricing, typer.Option(help="Where step times come from.")] = Pricing.ANALYTIC,
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
    """Simulate what real servers ran and compare with what they measured."""
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


@app.command(epilog="Example: simserve sweep sweep.yaml --out build/sweep")
def sweep(
    file: Annotated[str, typer.Argument(metavar="SWEEP.yaml", help="The base scenario and its axes.")],
    out: Annotated[str, typer.Option(metavar="DIR", help="Folder of the results; an earlier sweep goes on.")],
    executor: Annotated[Where, typer.Option(help="Where the points run.")] = Where.LOCAL,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes of this machine; without it one a core.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="An existing Ray cluster (--executor ray); without it one of our own.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the points and run none.")] = False,
    json: Json = False,
) -> None:
    """Run a scenario along axes, in parallel; a sweep that was stopped goes on where it was."""
    from simserve.cli.sweep import sweep_scenarios

    sweep_scenarios(
        file, out, executor=executor.value, workers=workers, address=address, as_json=json, dry_run=dry_run
    )


@app.command(epilog="Example: simserve capacity quickstart --slo 'ttft_p90<=1s, tpot_p99<=50ms'")
def capacity(
    scenario: Annotated[str, typer.Argument(help="Scenario file, or the name of a shipped one.")],
    slo: Annotated[
        str,
        typer.Option(
            metavar="TERMS",
            help="What must hold: {ttft,tpot,itl,e2el}_{mean,p50,p90,p95,p99}<=TIME, "
            "slo_attainment>=SHARE; separated by commas.",
        ),
    ],
    overrides: Overrides = None,
    tolerance: Annotated[
        float, typer.Option(min=1e-4, max=1.0, help="How far above the result a rate that fails may be.")
    ] = 0.02,
    seeds: Annotated[int, typer.Option(min=1, help="Searches, one a seed; gives an interval.")] = 1,
    json: Json = False,
) -> None:
    """Find the highest request rate at which a scenario keeps its objectives."""
    from simserve.cli.capacity import print_capacity

    print_capacity(scenario, overrides or [], slo, tolerance=tolerance, seeds=seeds, as_json=json)


@app.command(
    epilog="Example: simserve recommend quickstart --slo 'ttft_p90<=1s' --hardware l40s,h100-sxm "
    "--price l40s=0.9 --price h100-sxm=2.5 --out best.yaml"
)
def recommend(
    scenario: Annotated[str, typer.Argument(help="Scenario file, or the name of a shipped one: one pool.")],
    slo: Annotated[str, typer.Option(metavar="TERMS", help="What must hold, as of `capacity`.")],
    hardware: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Accelerators to choose from.")
    ] = None,
    tensor_parallel_size: Annotated[
        str | None, typer.Option("--tensor-parallel-size", "--tp", metavar="1,2,...", help="Ranks to try.")
    ] = None,
    axis: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=A,B,...", help="Another key below the pool, such as engine.max_num_seqs=64,256."
        ),
    ] = None,
    price: Annotated[
        list[str] | None, typer.Option(metavar="NAME=USD", help="Price of an accelerator an hour.")
    ] = None,
    objective: Annotated[Objective, typer.Option(help="What is to be least.")] = Objective.COST,
    rate: Annotated[
        float | None, typer.Option(min=1e-9, help="Requests a second; without it the scenario's own.")
    ] = None,
    max_gpus: Annotated[int, typer.Option(min=1, help="No option may have more accelerators.")] = 64,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Write the best as a scenario.")] = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Find the cheapest configuration that serves a load within its objectives."""
    from simserve.cli.recommend import print_recommendation, read_axes

    print_recommendation(
        scenario, overrides or [], slo,
        axes=read_axes(hardware, tensor_parallel_size, axis or []),
        prices=price or (), objective=objective.value, rate=rate, most_gpus=max_gpus, out=out, as_json=json,
    )  # fmt: skip
