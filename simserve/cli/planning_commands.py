"""The options of the planner's commands: capacity and recommend."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from simserve.cli.app import Json, Overrides, app
from simserve.cli.choices import one_of, words
from simserve.cli.executor_options import Address, Price, Prices, Runs, Where, Workers

_SLO_HELP = (
    "What must hold: {ttft,tpot,itl,e2el}_{mean,p50,p90,p95,p99}<=TIME, slo_attainment>=SHARE; "
    "separated by commas."
)
Tolerance = Annotated[
    float, typer.Option(min=1e-4, max=1.0, help="How far above a rate that holds one that fails may be.")
]


class Objective(StrEnum):
    """What the best configuration is best in."""

    COST = "cost"
    GPUS = "gpus"
    THROUGHPUT_PER_GPU = "throughput_per_gpu"
    ENERGY = "energy"


@app.command(epilog="Example: simserve capacity two-pools --slo 'ttft_p90<=0.5s, tpot_p99<=50ms'")
def capacity(
    scenario: Annotated[str, typer.Argument(help="Scenario file, or the name of a shipped one.")],
    slo: Annotated[str, typer.Option(metavar="TERMS", help=_SLO_HELP)],
    overrides: Overrides = None,
    tolerance: Tolerance = 0.02,
    seeds: Annotated[int, typer.Option(min=1, help="Searches, one a seed; gives an interval.")] = 1,
    executor: Runs = Where.LOCAL,
    workers: Workers = None,
    address: Address = None,
    json: Json = False,
) -> None:
    """Find the highest request rate that keeps the objectives."""
    from simserve.cli.capacity import print_capacity
    from simserve.cli.executor_options import choose_executor

    print_capacity(
        scenario, overrides or [], slo, tolerance=tolerance, seeds=seeds,
        # A single search is over before processes for it would have paid.
        executor=choose_executor(executor.value, workers, address, here=True, most=seeds),
        as_json=json,
    )  # fmt: skip


@app.command(
    epilog="Example: simserve recommend quickstart --slo 'ttft_p90<=1s' --price l40s=1.09 "
    "--price h100-sxm=3.49 --out build/best.yaml"
)
def recommend(
    context: typer.Context,
    scenario: Annotated[str, typer.Argument(help="Scenario file, or the name of a shipped one.")],
    slo: Annotated[str, typer.Option(metavar="TERMS", help=_SLO_HELP)],
    objective: Annotated[
        Objective,
        typer.Option(
            metavar=words(Objective),
            parser=one_of("--objective", Objective),
            help="What the best is best in: the least, or the most throughput.",
        ),
    ] = Objective.COST,
    hardware: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="Accelerators to choose from; without it those with a price, else the scenario's own.",
        ),
    ] = None,
    tensor_parallel_size: Annotated[
        str | None,
        typer.Option(
            "--tensor-parallel-size", "--tp", metavar="1,2,...", help="Ranks to try; without it 1, 2, 4, 8."
        ),
    ] = None,
    pipeline_parallel_size: Annotated[
        str | None,
        typer.Option("--pipeline-parallel-size", "--pp", metavar="1,2,...", help="Stages to try."),
    ] = None,
    engine_kind: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Engine kinds to try: vllm,sglang.")
    ] = None,
    max_num_seqs: Annotated[
        str | None, typer.Option(metavar="N,M,...", help="Batch limits to try, in requests.")
    ] = None,
    max_num_batched_tokens: Annotated[
        str | None, typer.Option(metavar="N,M,...", help="Batch limits to try, in tokens of a step.")
    ] = None,
    axis: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=A,B,...",
            help="Another key and its values: below the first pool, such as engine.block_size=16,32, or of "
            "any, such as pools.1.hardware=l4,l40s.",
        ),
    ] = None,
    prices: Prices = None,
    price: Price = None,
    power: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=IDLE:BUSY",
            help="W of an accelerator without and with a step executing; NAME=tdp for its board's limit.",
        ),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=1e-9, help="Requests a second; without it the scenario's own.")
    ] = None,
    max_gpus: Annotated[int, typer.Option(min=1, help="No option may have more accelerators.")] = 64,
    max_usd_per_hour: Annotated[
        float | None, typer.Option(min=0, help="No option may cost more an hour.")
    ] = None,
    max_probes: Annotated[
        int | None, typer.Option(min=1, help="End after so many simulations, with the best so far.")
    ] = None,
    max_seconds: Annotated[
        float | None, typer.Option(min=0, help="End after this time, with the best so far.")
    ] = None,
    runners_up: Annotated[int, typer.Option(min=0, help="How many beside the best are looked for.")] = 2,
    seeds: Annotated[
        int, typer.Option(min=1, help="Draws of the requests; what holds does so with each.")
    ] = 1,
    tolerance: Tolerance = 0.02,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Write the best as a scenario.")] = None,
    overrides: Overrides = None,
    executor: Runs = Where.LOCAL,
    workers: Workers = None,
    address: Address = None,
    json: Json = False,
) -> None:
    """Find the best configuration for a load."""
    from simserve.cli.command_line import typed_command
    from simserve.cli.executor_options import choose_executor
    from simserve.cli.recommend import print_recommendation
    from simserve.cli.space import read_axes
    from simserve.study.prices import read_powers, read_prices
    from simserve.study.recommend import Budget
    from simserve.study.sizing import Limits

    given = {
        "hardware": hardware,
        "engine.tensor_parallel_size": tensor_parallel_size,
        "engine.pipeline_parallel_size": pipeline_parallel_size,
        "engine.kind": engine_kind,
        "engine.max_num_seqs": max_num_seqs,
        "engine.max_num_batched_tokens": max_num_batched_tokens,
    }
    print_recommendation(
        scenario, overrides or [], slo,
        objective=objective.value,
        axes=read_axes(given, axis or []),
        prices=read_prices(prices, price or []),
        powers=read_powers(power or []),
        rate=rate,
        limits=Limits(max_gpus, max_usd_per_hour),
        budget=Budget(max_probes, max_seconds),
        runners_up=runners_up,
        seeds=seeds,
        tolerance=tolerance,
        executor=choose_executor(executor.value, workers, address, here=True),
        command=typed_command(context, leave_out=("json", "workers")),
        out=out,
        as_json=json,
    )  # fmt: skip
