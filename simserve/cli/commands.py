"""The options of the commands about one run, and of the groups of commands."""

from __future__ import annotations

from typing import Annotated

import typer

from simserve.cli.app import Json, Overrides, app
from simserve.cli.choices import CATALOG_ALIASES, Catalog, Explain, one_of, words
from simserve.cli.usage import run_group


@app.command(epilog="Example: simserve run quickstart --set pools.0.replicas=4 --out build/four")
def run(
    scenario: Annotated[str, typer.Argument(help="Scenario file, or the name of a shipped one.")],
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Write the results into this folder.")
    ] = None,
    overrides: Overrides = None,
    seeds: Annotated[int, typer.Option(min=1, help="Repeat with this many seeds; print intervals.")] = 1,
    json: Json = False,
    explain: Annotated[
        Explain | None,
        typer.Option(
            metavar=words(Explain),
            parser=one_of("--explain", Explain),
            help="Explain the memory or the step time; run nothing.",
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Check the invariants of caches as it runs.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print neither summary nor progress.")] = False,
) -> None:
    """Simulate a scenario and print its summary."""
    from simserve.cli.run import explain_scenario, run_once, run_seeds

    if explain is not None:
        explain_scenario(scenario, overrides or [], explain.value, as_json=json)
    elif seeds > 1:
        run_seeds(scenario, overrides or [], seeds, out, as_json=json, check=check, quiet=quiet)
    else:
        run_once(scenario, overrides or [], out, as_json=json, check=check, quiet=quiet)


@app.command(epilog="Example: simserve compare quickstart build/four")
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="Scenario, or the folder of a run.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Scenario, or the folder of a run.")],
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Run two scenarios, or read two runs, side by side."""
    from simserve.cli.run import compare_runs

    compare_runs(first, second, overrides or [], as_json=json)


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
    """Take one step apart. Gives work, time and distance from the peaks of every operator."""
    from simserve.cli.roofline import measured_cost, print_roofline
    from simserve.report.roofline import roofline as find_roofline

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


@app.command(epilog="Example: simserve report build/four --html build/four.html")
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
    """Turn a run's folder into files for other tools. Without an option its summary is printed."""
    from simserve.cli.report import write_reports

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
    from simserve.cli.dashboard import start_dashboard

    start_dashboard(folders or [], port=port, browser=browser)


@app.command("list", epilog="Example: simserve list models")
def list_catalog(
    what: Annotated[
        Catalog,
        typer.Argument(
            metavar="WHAT",
            parser=one_of("list", Catalog, CATALOG_ALIASES),
            help="What to list.",
        ),
    ],
    json: Json = False,
) -> None:
    """List models, accelerators, policies, scenarios or traces."""
    from simserve.cli.catalogs import print_catalog

    print_catalog(what.value, as_json=json)


@app.command(epilog="Example: simserve schema > scenario.schema.json")
def schema() -> None:
    """Print the JSON schema of a scenario, for editors."""
    from json import dumps

    from simserve.scenario.dump import json_schema

    typer.echo(dumps(json_schema(), indent=2))


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
    """Turn a `vllm serve` command line into a scenario. Flags that are not known are listed."""
    from simserve.cli.vllm_import import print_imported

    print_imported(command, hardware, as_json=json)


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def trace(context: typer.Context) -> None:
    """Describe, convert, generate or fetch request traces."""
    from simserve.cli.trace import app as trace_app

    run_group(trace_app, context.args, "simserve trace")


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def calibrate(context: typer.Context) -> None:
    """Fit the cost model to measured kernels, or check it."""
    from simserve.cli.calibrate import app as calibrate_app

    run_group(calibrate_app, context.args, "simserve calibrate")


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def conformance(context: typer.Context) -> None:
    """Replay logs of real schedulers, or decision logs of any."""
    from simserve.cli.conformance import run_conformance

    run_conformance(context.args)
