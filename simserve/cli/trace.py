"""`simserve trace`: describe, convert, generate and fetch traces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from simserve.workload.statistics import TraceStatistics
    from simserve.workload.workload import Workload

app = typer.Typer(
    name="trace",
    help="Describe, convert, generate or fetch request traces.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Format = Annotated[
    str, typer.Option("--format", metavar="NAME", help="The trace's format; auto: recognised.")
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option", "-o", metavar="KEY=VALUE", help="An option of the format, as spread_ticks=true."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


@app.command(epilog="Example: simserve trace stats traces/chat.csv.gz")
def stats(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Traces, plain or .gz.")],
    format: Format = "auto",
    options: Options = None,
    json: Json = False,
) -> None:
    """Print rates, burstiness, lengths and the ideal prefix hit of traces.

    With several traces and --json, the object has one entry for each path.
    """
    from simserve.workload.statistics import describe_trace

    found = {path: describe_trace(_read(path, format, options)) for path in paths}
    if json:
        results = {path: statistics.to_dict() for path, statistics in found.items()}
        _print_json(results[paths[0]] if len(paths) == 1 else results)
        return
    for index, statistics in enumerate(found.values()):
        if index:
            typer.echo("")
        for label, value in _table(statistics):
            typer.echo(f"{label:<24} {value}")


@app.command(epilog="Example: simserve trace convert traces/chat.csv.gz build/chat.parquet --limit 100")
def convert(
    source: Annotated[str, typer.Argument(help="The trace to read.")],
    target: Annotated[
        str, typer.Argument(help="File to write: .parquet, .jsonl or .csv, the last two also .gz.")
    ],
    format: Format = "auto",
    options: Options = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first requests, by arrival.")] = None,
) -> None:
    """Write a trace in simserve's own format; parquet and JSONL keep every field."""
    load = _read(source, format, options)
    _write(load if limit is None else load.head(limit), target)


@app.command(
    epilog="Example: simserve trace generate build/load.csv.gz --arrivals 5 --prompt-tokens 512 "
    "--output-tokens 128 --requests 1000"
)
def generate(
    target: Annotated[
        str, typer.Argument(help="File to write: .parquet, .jsonl or .csv, the last two also .gz.")
    ],
    scenario: Annotated[
        str | None, typer.Option(metavar="FILE", help="A scenario, or YAML with a `workload` section.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed; by default the file's, or 0.")] = None,
    arrivals: Annotated[float | None, typer.Option(help="Poisson arrivals per second.")] = None,
    cv: Annotated[
        float | None, typer.Option(help="Gamma arrivals with this coefficient of variation.")
    ] = None,
    prompt_tokens: Annotated[int | None, typer.Option(help="Prompt length; with a cv: its mean.")] = None,
    output_tokens: Annotated[int | None, typer.Option(help="Output length; with a cv: its mean.")] = None,
    length_cv: Annotated[float | None, typer.Option(help="Log-normal lengths with this variation.")] = None,
    requests: Annotated[int | None, typer.Option(min=1, help="Number of requests.")] = None,
) -> None:
    """Generate a trace from a scenario's workload section, or from options."""
    from dataclasses import replace
    from functools import partial
    from pathlib import Path

    from simserve.data_files import find_file
    from simserve.scenario.loader import find_scenario
    from simserve.scenario.workload_build import build_workload
    from simserve.scenario.workload_file import load_workload_file
    from simserve.workload.rows import trace_name

    given = {
        "arrivals": _arrivals(arrivals, cv),
        "prompt_tokens": _lengths(prompt_tokens, length_cv),
        "output_tokens": _lengths(output_tokens, length_cv),
        "requests": requests,
    }
    path = None if scenario is None else find_scenario(scenario)
    recipe = load_workload_file(path, {key: value for key, value in given.items() if value is not None})
    seed = recipe.seed if seed is None else seed
    folder = Path.cwd() if path is None else path.parent
    load = build_workload(recipe.workload, seed=seed, find_file=partial(find_file, beside=folder))
    _write(replace(load, name=trace_name(Path(target))), target)


@app.command(epilog="Example: simserve trace fetch azure-2023-conv")
def fetch(
    name: Annotated[str | None, typer.Argument(help="Name of a public trace; none: list them.")] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="DIR", help="Folder, in place of the cache.")
    ] = None,
    mirror: Annotated[
        str | None, typer.Option(metavar="URL", help="Address that serves OWNER/REPOSITORY/COMMIT/PATH.")
    ] = None,
    json: Json = False,
) -> None:
    """Download a public trace into the cache; print its path, checksum, license and citation."""
    from pathlib import Path

    from simserve.workload.fetching import fetch_trace, find_public_trace
    from simserve.workload.public_traces import PUBLIC_TRACES

    if name is None:
        known = {key: {"license": t.license, "repository": t.repository} for key, t in PUBLIC_TRACES.items()}
        if json:
            _print_json(known)
        else:
            for key, entry in known.items():
                typer.echo(f"{key:<28} {entry['license']:<12} {entry['repository']}")
        return
    trace = find_public_trace(name)
    facts = {
        "name": name,
        "path": "",
        "sha256": trace.sha256,
        "license": trace.license,
        "citation": trace.citation,
        "source": trace.url(),
    }
    facts["path"] = str(fetch_trace(name, None if to is None else Path(to), mirror))
    if json:
        _print_json(facts)
    else:
        for key, value in facts.items():
            typer.echo(f"{key:<10} {value}")


def _read(path: str, format: str, options: list[str] | None) -> Workload:
    from simserve.data_files import find_file
    from simserve.workload.trace import read_trace

    return read_trace(find_file(path), format, **_parse_options(options or []))


def _parse_options(options: list[str]) -> dict[str, Any]:
    import yaml

    from simserve.errors import InputError

    parsed = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise InputError(f"--option {option}: expected KEY=VALUE")
        try:
            parsed[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(f"--option {option}: the value is no YAML") from error
    return parsed


def _write(load: Workload, target: str) -> None:
    from simserve.workload.writing import write_trace

    write_trace(load, target)
    typer.echo(f"{target}: {load.count} requests")


def _print_json(value: Mapping[str, Any]) -> None:
    import json

    typer.echo(json.dumps(value, indent=2))


def _arrivals(rate: float | None, cv: float | None) -> dict[str, Any] | None:
    from simserve.errors import InputError

    if rate is None:
        if cv is not None:
            raise InputError("--cv needs --arrivals, the rate per second")
        return None
    return {"rate_per_s": rate} if cv is None else {"kind": "gamma", "rate_per_s": rate, "cv": cv}


def _lengths(tokens: int | None, cv: float | None) -> dict[str, Any] | None:
    if tokens is None:
        return None
    return {"value": tokens} if cv is None else {"mean": float(tokens), "cv": cv}


def _table(statistics: TraceStatistics) -> list[tuple[str, str]]:
    """Label and value of every line of `stats`."""

    def show(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    rows = [("trace", statistics.name), ("requests", str(statistics.requests))]
    if statistics.sessions:
        rows.append(("sessions", str(statistics.sessions)))
    rows += [
        ("duration s", show(statistics.duration_s, 1)),
        ("mean requests/min", show(statistics.mean_per_min, 1)),
        ("peak requests/min", show(statistics.peak_per_min, 0)),
        ("CV inter-arrival", show(statistics.cv, 2)),
        ("variance/mean per 1 s", show(statistics.dispersion_1s, 2)),
    ]
    for label, lengths in (
        ("prompt tokens", statistics.prompt_tokens),
        ("output tokens", statistics.output_tokens),
    ):
        quantiles = f"{lengths.p50:.0f} / {lengths.p95:.0f} / {lengths.p99:.0f} / {lengths.max}"
        rows.append((label, f"mean {lengths.mean:.0f}, p50 / p95 / p99 / max {quantiles}"))
    rows.append(("lengths of 0 (run as 1)", str(statistics.zero_lengths)))
    hit = show(statistics.ideal_prefix_hit, 3)
    if statistics.block_tokens:
        hit += f" (blocks of {statistics.block_tokens} tokens)"
    rows.append(("ideal prefix hit", hit))
    return rows
