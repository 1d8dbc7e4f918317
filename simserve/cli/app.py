"""The command line's application, and the options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from simserve.version import __version__

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
