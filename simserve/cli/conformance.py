"""`simserve conformance`: golden logs of the real schedulers, and decision logs of any scheduler."""

from __future__ import annotations

import json as json_text
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simserve.cli.usage import run_group
from simserve.errors import InputError, SimserveError

if TYPE_CHECKING:
    from simserve.conformance.report import ConformanceReport
    from simserve.conformance.sglang_report import SglangReport

app = typer.Typer(
    name="conformance",
    help="Compare schedulers with logs of what they decide.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Logs = Annotated[list[str], typer.Argument(metavar="PATH...", help="Golden logs: files or folders.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def run_conformance(args: list[str]) -> None:
    """Run the subcommand that `args` begin with."""
    run_group(app, args, "simserve conformance")


@app.command(epilog="Example: simserve conformance vllm LOGS")
def vllm(paths: Logs, json: Json = False) -> None:
    """Replay decision logs of the real vLLM and report every difference; exit 1 on any."""
    check_conformance("vllm", paths, as_json=json)


@app.command(epilog="Example: simserve conformance sglang LOGS")
def sglang(paths: Logs, json: Json = False) -> None:
    """Replay logs of the real SGLang and report every difference; exit 1 on any."""
    check_conformance("sglang", paths, as_json=json)


@app.command(epilog="Example: simserve conformance record overload --out build/overload.json --steps 100")
def record(
    scenario: Annotated[str, typer.Argument(help="Scenario file, or the name of a shipped one.")],
    out: Annotated[str, typer.Option(metavar="LOG", help="The file to write.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key: pools.0.engine.kind=sarathi."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps to record at most.")] = 200,
    instance: Annotated[int, typer.Option(min=0, help="Number of the engine to record.")] = 0,
) -> None:
    """Write what a scheduler decides in a scenario into a decision log."""
    from simserve.scenario.loader import load_scenario
    from simserve.testing.recording import record_decisions

    log = record_decisions(load_scenario(scenario, overrides or []), steps=steps, engine=instance)
    log.write(Path(out))
    typer.echo(f"{out}: {log.steps:,} steps, {len(log.requests):,} requests, kind {log.kind}")


@app.command(epilog="Example: simserve conformance replay tests/golden/orca.json --kind orca")
def replay(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Decision logs: files or folders.")],
    kind: Annotated[
        str | None, typer.Option(help="Drive this kind, or package.module:Class, in place of the logs' own.")
    ] = None,
    json: Json = False,
) -> None:
    """Drive schedulers through decision logs; print the first difference of each, and exit 1 on any."""
    from simserve.conformance.decision_log import read_decision_log
    from simserve.conformance.decision_replay import replay_decisions
    from simserve.conformance.golden import find_logs

    files = find_logs([Path(path) for path in paths])
    if not files:
        raise InputError("no decision log (*.json, *.json.gz) found in the given paths")
    outcomes = [replay_decisions(read_decision_log(path), str(path), kind) for path in files]
    failed = [outcome for outcome in outcomes if outcome.difference]
    if json:
        passed = len(outcomes) - len(failed)
        report = {"logs": len(outcomes), "passed": passed, "failures": [asdict(each) for each in failed]}
        print(json_text.dumps(report, indent=2))
    else:
        for each in outcomes:
            found = each.difference or "all agree"
            print(f"{each.file}: {each.kind}: {each.agreed} of {each.steps} steps: {found}")
    if failed:
        raise SystemExit(SimserveError.exit_status)


def check_conformance(engine: str, paths: list[str], *, as_json: bool) -> None:
    """Replay the logs among `paths` and print how many agree; exit 1 if any differs."""
    report = _replay(engine, [Path(path) for path in paths])
    if as_json:
        print(json_text.dumps(report.to_json(), indent=2))
    else:
        print("\n".join(report.lines()))
    if not report.ok:
        raise SystemExit(SimserveError.exit_status)


def _replay(engine: str, paths: list[Path]) -> ConformanceReport | SglangReport:
    if engine == "sglang":
        from simserve.conformance.sglang import replay_paths as replay_sglang

        return replay_sglang(paths)
    from simserve.conformance.vllm import replay_paths

    return replay_paths(paths)
