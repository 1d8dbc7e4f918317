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
    ENGINES = "engines"
    SCENARIOS = "scenarios"
    TRACES = "traces"


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


@app.command(epilog="Example: simserve conformance vllm logs/")
def conformance(
    engine: Annotated[str, typer.Argument(help="The engine whose logs these are: vllm.")],
    paths: Annotated[list[str], typer.Argument(help="Golden logs: files or folders.")],
    json: Json = False,
) -> None:
    """Replay logs of the real scheduler and report every difference; exit 1 on any."""
    from simserve.cli_conformance import check_conformance

    check_conformance(engine, paths, as_json=json)


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
