"""`simserve trace`: what it prints, what it writes, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simserve.cli.trace import app
from simserve.errors import InputError
from simserve.workload.trace import read_trace


def run(*arguments: str) -> str:
    """Standard output of a command that succeeds; its own errors are raised."""
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "t.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n0,5,6\n2,7,0\n60,9,8\n")
    return path


def test_stats_as_text(table: Path) -> None:
    lines = dict(line.split("  ", 1) for line in run("stats", str(table)).splitlines())
    found = {label.strip(): value.strip() for label, value in lines.items()}
    assert found["requests"] == "3"
    assert found["duration s"] == "60.0"
    assert found["prompt tokens"] == "mean 7, p50 / p95 / p99 / max 7 / 9 / 9 / 9"
    assert found["lengths of 0 (run as 1)"] == "1"


def test_stats_as_json(table: Path) -> None:
    found = json.loads(run("stats", str(table), "--json"))
    assert (found["requests"], found["mean_per_min"], found["output_tokens"]["max"]) == (3, 3.0, 8)
    assert json.loads(run("stats", str(table), str(table), "--json"))[str(table)]["peak_per_min"] == 2


def test_stats_with_options_of_a_format(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    rows = [
        {"timestamp": t, "input_length": 5, "output_length": 5, "hash_ids": [i]}
        for i, t in enumerate((0, 0, 3000))
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    found = json.loads(run("stats", str(path), "-o", "spread_ticks=true", "--json"))
    assert found["cv"] == 0
    with pytest.raises(InputError, match="expected KEY=VALUE"):
        run("stats", str(path), "-o", "spread_ticks")


def test_convert_keeps_requests(table: Path, tmp_path: Path) -> None:
    target = tmp_path / "t.parquet"
    assert run("convert", str(table), str(target)) == f"{target}: 3 requests\n"
    assert list(read_trace(target).requests()) == list(read_trace(table).requests())
    run("convert", str(target), str(tmp_path / "two.jsonl.gz"), "--limit", "2")
    assert read_trace(tmp_path / "two.jsonl.gz").count == 2


def test_generate_from_options(tmp_path: Path) -> None:
    target = tmp_path / "g.csv"
    options = [
        "--arrivals",
        "10",
        "--cv",
        "2",
        "--prompt-tokens",
        "100",
        "--output-tokens",
        "50",
        "--length-cv",
        "0.5",
    ]
    run("generate", str(target), *options, "--requests", "2000", "--seed", "3")
    load = read_trace(target)
    assert load.count == 2000
    assert load.prompt_tokens.mean() == pytest.approx(100, rel=0.05)
    assert load.arrival_ns[-1] / 1e9 == pytest.approx(200, rel=0.25)
    first = target.read_bytes()
    run("generate", str(target), *options, "--requests", "2000", "--seed", "3")
    assert target.read_bytes() == first


def test_generate_from_a_scenario_beside_its_trace(table: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "s.yaml"
    recipe.write_text("name: x\nmodel: y\nseed: 4\nworkload:\n  trace: {path: t.csv, rate_scale: 2}\n")
    run("generate", str(tmp_path / "g.csv"), "--scenario", str(recipe))
    assert read_trace(tmp_path / "g.csv").arrival_ns.tolist() == [0, 10**9, 30 * 10**9]


def test_generate_refuses_with_the_place(tmp_path: Path) -> None:
    recipe = tmp_path / "s.yaml"
    recipe.write_text("workload:\n  arrivals: -1\n  prompt_tokens: 5\n  output_tokens: 5\n  requests: 5\n")
    with pytest.raises(InputError, match=r"s\.yaml:2:\d+: .*above 0"):
        run("generate", str(tmp_path / "g.csv"), "--scenario", str(recipe))
    with pytest.raises(InputError, match="generated requests need prompt_tokens and output_tokens"):
        run("generate", str(tmp_path / "g.csv"), "--arrivals", "5")
    with pytest.raises(InputError, match="expected one of trace, servegen, arrivals; found none"):
        run("generate", str(tmp_path / "g.csv"))


def test_fetch_lists_what_it_knows() -> None:
    assert "azure-2023-conv" in run("fetch")
    assert json.loads(run("fetch", "--json"))["mooncake-conversation"]["license"] == "Apache-2.0"


@pytest.mark.parametrize("command", ["stats", "convert", "generate", "fetch"])
def test_every_command_has_an_example(command: str) -> None:
    assert f"Example: simserve trace {command}" in run(command, "--help")
