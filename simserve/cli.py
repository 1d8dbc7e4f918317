"""The command line: parses, calls, prints. What a command needs is imported when it runs.

Exit status: 0 done; 1 the run failed, was stopped or a check did not hold; 2 bad input.
"""

from __future__ import annotations

import gc
import os
import sys
from enum import StrEnum
from typing import Annotated

import typer

from simserve import __version__

app = typer.Typer(
    name="simserve",
    help="Simulate cluster-scale LLM serving: a request trace in, latencies, throughput and memory use out.",
    epilog="Example: simserve run scenarios/quickstart.yaml",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key: pools.0.engine.max_num_seqs=64."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


class Explain(StrEnum):
    """What `run --explain` explains."""

    MEMORY = "memory"
    STEP = "step"


class Catalog(StrEnum):
    """What `list` lists."""

    MODELS = "models"
    HARDWARE = "hardware"
    ROUTERS = "routers"
    SCHEDULERS = "schedulers"
    ORDERS = "orders"
    EVICTIONS = "evictions"
    SCENARIOS = "scenarios"
    TRACES = "traces"


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


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"simserve {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: simserve run scenarios/quickstart.yaml --set pools.0.replicas=4 --out out/four")
def run(
    scenario: Annotated[str, typer.Argument(help="Scenario file (YAML).")],
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Write the results into this folder.")
    ] = None,
    overrides: Overrides = None,
    seeds: Annotated[int, typer.Option(min=1, help="Repeat with this many seeds; print intervals.")] = 1,
    json: Json = False,
    explain: Annotated[
        Explain | None, typer.Option(help="Explain the memory or the step time; run nothing.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Check the invariants of caches as it runs.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print neither summary nor progress.")] = False,
) -> None:
    """Simulate a scenario and print its summary."""
    from simserve.cli_run import explain_scenario, run_once, run_seeds

    if explain is not None:
        explain_scenario(scenario, overrides or [], explain.value, as_json=json)
    elif seeds > 1:
        run_seeds(scenario, overrides or [], seeds, out, as_json=json, check=check, quiet=quiet)
    else:
        run_once(scenario, overrides or [], out, as_json=json, check=check, quiet=quiet)


@app.command(epilog="Example: simserve compare one-gpu.yaml two-gpus.yaml --set seed=1")
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="Scenario file, or the folder of a run.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Scenario file, or the folder of a run.")],
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Run two scenarios (or read two runs) and print them side by side."""
    from simserve.cli_run import compare_runs

    compare_runs(first, second, overrides or [], as_json=json)


@app.command("list", epilog="Example: simserve list models")
def list_catalog(
    what: Annotated[Catalog, typer.Argument(help="What to list.")],
    json: Json = False,
) -> None:
    """List the models, accelerators, policies, scenarios or traces that can be named."""
    from simserve.cli_list import print_catalog

    print_catalog(what.value, as_json=json)


@app.command(epilog="Example: simserve schema > scenario.schema.json")
def schema() -> None:
    """Print the JSON schema of a scenario, for editors."""
    from json import dumps

    from simserve.scenario.dump import json_schema

    typer.echo(dumps(json_schema(), indent=2))


@app.command(
    epilog="Example: simserve roofline llama-3.1-70b --hardware h100-sxm --tp 4 --batch 32 --context 4096"
)
def roofline(
    model: Annotated[str, typer.Argument(help="Catalog name, or a Hugging Face config.json.")],
    hardware: Annotated[str, typer.Option(help="Accelerator: catalog name, or its YAML file.")],
    batch: Annotated[int, typer.Option(min=0, help="Requests that decode one token each.")] = 1,
    context: Annotated[int, typer.Option(min=0, help="KV tokens that each of them reads.")] = 1024,
    prefill: Annotated[int, typer.Option(min=0, help="Tokens of a prompt in the same step.")] = 0,
    tensor_parallel_size: Annotated[
        int, typer.Option("--tensor-parallel-size", "--tp", min=1, help="Ranks of a stage.")
    ] = 1,
    pipeline_parallel_size: Annotated[
        int, typer.Option("--pipeline-parallel-size", "--pp", min=1, help="Pipeline stages.")
    ] = 1,
    data_parallel_size: Annotated[
        int, typer.Option("--data-parallel-size", "--dp", min=1, help="Ranks with a batch each.")
    ] = 1,
    enable_expert_parallel: Annotated[
        bool, typer.Option("--enable-expert-parallel", "--ep", help="Spread whole experts over the ranks.")
    ] = False,
    dtype: Annotated[str | None, typer.Option(help="Of the weights, as in vLLM.")] = None,
    quantization: Annotated[str | None, typer.Option(help="Of the weights, as in vLLM.")] = None,
    kv_cache_dtype: Annotated[str | None, typer.Option(help="Of the KV cache, as in vLLM.")] = None,
    host: Annotated[
        str | None, typer.Option(metavar="PROFILE", help="Add an engine's host time: vllm-0.19.")
    ] = None,
    what_if: Annotated[
        str | None, typer.Option(metavar="RATES", help="A second column: bandwidth=2x,flops=1.5x,link=0.5x.")
    ] = None,
    flash_block: Annotated[
        str | None, typer.Option(metavar="SIZES", help="Try FlashAttention blocks on the prompt: 64,128x64.")
    ] = None,
    tables: Annotated[
        list[str] | None, typer.Option(metavar="PATH", help="Look kernels up in these measured tables first.")
    ] = None,
    aic: Annotated[
        str | None,
        typer.Option(metavar="BACKEND", help="... in aiconfigurator-core's tables of this backend."),
    ] = None,
    html: Annotated[
        str | None, typer.Option(metavar="FILE", help="Draw the roofline into this file.")
    ] = None,
    json: Json = False,
) -> None:
    """Take one step apart: work, time and distance from the peaks of every operator."""
    from simserve.report.roofline import roofline as find_roofline
    from simserve.roofline_cli import measured_cost, print_roofline

    found = find_roofline(
        model,
        hardware,
        batch=batch,
        context=context,
        prefill=prefill,
        tensor_parallel_size=tensor_parallel_size,
        pipeline_parallel_size=pipeline_parallel_size,
        data_parallel_size=data_parallel_size,
        enable_expert_parallel=enable_expert_parallel,
        dtype=dtype,
        quantization=quantization,
        kv_cache_dtype=kv_cache_dtype,
        host=host,
        cost=measured_cost(tables or (), aic),
        what_if=what_if,
        flash_block=flash_block,
    )
    print_roofline(found, as_json=json, html=html)


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
        from simserve.validate_cli import show_study

        alone = not (html or strict or scenario or (left_out and effects))
        show_study(runs, effects=effects, cost=cost.value, tables=tables or (), as_json=json, alone=alone)
        return
    from simserve.validate_cli import validate_runs

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
    from simserve.sweep_cli import sweep_scenarios

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
    from simserve.capacity_cli import print_capacity

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
    from simserve.recommend_cli import print_recommendation, read_axes

    print_recommendation(
        scenario, overrides or [], slo,
        axes=read_axes(hardware, tensor_parallel_size, axis or []),
        prices=price or (), objective=objective.value, rate=rate, most_gpus=max_gpus, out=out, as_json=json,
    )  # fmt: skip


@app.command(epilog="Example: simserve report out --html out.html --perfetto out.json.gz")
def report(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="The folder of a run.")],
    html: Annotated[
        str | None, typer.Option(metavar="FILE", help="One page of figures that works without a network.")
    ] = None,
    perfetto: Annotated[
        str | None, typer.Option(metavar="FILE", help="A trace for ui.perfetto.dev; .gz compresses it.")
    ] = None,
    prometheus: Annotated[
        str | None, typer.Option(metavar="FILE", help="Time series under vLLM's names, as OpenMetrics text.")
    ] = None,
    vllm_bench: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The JSON of vllm bench serve --save-result --save-detailed."),
    ] = None,
) -> None:
    """Turn a run's folder into files for other tools; without an option print its summary."""
    from simserve.report_cli import write_reports

    write_reports(folder, html=html, perfetto=perfetto, prometheus=prometheus, vllm_bench=vllm_bench)


@app.command(epilog="Example: simserve dashboard . --port 8501")
def dashboard(
    folders: Annotated[
        list[str] | None,
        typer.Argument(metavar="DIR...", help="What it may open; without one the working directory."),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where it listens, on localhost only.")] = 8501,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
) -> None:
    """Run, look at and compare simulations in a browser."""
    from simserve.dashboard_cli import start_dashboard

    start_dashboard(folders or [], port=port, browser=browser)


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def conformance(context: typer.Context) -> None:
    """Replay logs of real schedulers (vllm, sglang); record and replay decision logs of any."""
    from simserve.cli_conformance import run_conformance

    run_conformance(context.args)


@app.command(
    "import",
    epilog="Example: simserve import 'vllm serve Qwen/Qwen3-8B -tp 2' --hardware h100-sxm > mine.yaml",
)
def import_command(
    command: Annotated[str, typer.Argument(help="The command line, quoted.")],
    hardware: Annotated[
        str | None, typer.Option(help="Accelerator that it runs on; without it h100-sxm.")
    ] = None,
    json: Json = False,
) -> None:
    """Turn a `vllm serve` command line into a scenario; list the flags that are not known."""
    from simserve.cli_import import print_imported

    print_imported(command, hardware, as_json=json)


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def trace(context: typer.Context) -> None:
    """Describe, convert, generate or fetch request traces: stats, convert, generate, fetch."""
    from simserve.trace_cli import app as trace_app

    trace_app(args=context.args, prog_name="simserve trace")


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def calibrate(context: typer.Context) -> None:
    """Fit the cost model to measured kernels, or compare measured kernels with it: fit, check."""
    from simserve.calibrate_cli import app as calibrate_app

    calibrate_app(args=context.args, prog_name="simserve calibrate")


def main() -> None:
    """Run the command line and end the process with its status."""
    # Nothing here multiplies matrices: starting BLAS threads would cost more than a small run. Plug-ins of
    # pydantic are neither needed nor wanted, and looking for them takes time.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # A run makes millions of objects that live to its end and hardly a cycle: look for cycles rarely.
    gc.set_threshold(100_000, 50, 100)
    status = _run_app()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        status = 1
    # Leaves the memory to the system; freeing a large run object by object takes seconds.
    os._exit(status)


def _run_app() -> int:
    """Run the command and return its exit status; an error that is no bug is told in one message."""
    from simserve.errors import SimserveError

    try:
        app()
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except SimserveError as error:
        print(f"simserve: error: {error}", file=sys.stderr)
        return error.exit_status
    except MemoryError:
        print("simserve: error: the scenario needs more memory than this machine has", file=sys.stderr)
    except Exception:
        import traceback

        traceback.print_exc()
    return 1
