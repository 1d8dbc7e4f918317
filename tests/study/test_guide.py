"""The guide to studies: its files and commands, as they are written."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from simserve.cli.entry import app
from simserve.scenario.loader import load_scenario

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "studies.md"
TEXT = PAGE.read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the files of the guide."""
    for block in re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL):
        (tmp_path / block.split()[1]).write_text(block)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands(name: str) -> list[list[str]]:
    """Return the commands of the guide with a name, as words."""
    blocks = re.findall(r"```sh\n(.*?)```", TEXT, flags=re.DOTALL)
    lines = [shlex.split(line) for block in blocks for line in block.splitlines()]
    return [words[1:] for words in lines if words[:2] == ["simserve", name]]


def run(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, f"{words}: {done.output} {done.exception}"
    return done.stdout


def test_the_sweep_runs_and_counts_dollars(folder: Path) -> None:
    dry, real = commands("sweep")[:2]
    assert len(run(*dry).splitlines()) == 16
    smaller = (folder / "sweep.yaml").read_text().replace("requests=500", "requests=50")
    (folder / "sweep.yaml").write_text(smaller)
    run(*real, "--workers", "1")
    rows = pq.read_table(folder / "build" / "sweep" / "results.parquet").to_pylist()
    assert [row["status"] for row in rows] == ["done"] * 16
    assert {row["usd_per_hour"] for row in rows} == {1.09, 2.18}


@pytest.mark.slow
def test_the_capacity_is_found(folder: Path) -> None:
    (words,) = commands("capacity")
    shown = re.findall(r"```text\n(.*?)```", TEXT, flags=re.DOTALL)[0]
    assert shown in run(*words)


@pytest.mark.slow
def test_the_recommendations_are_those_that_are_shown(folder: Path) -> None:
    cheapest, densest = commands("recommend")
    shown = re.findall(r"```text\n(.*?)```", TEXT, flags=re.DOTALL)[1]
    assert shown in run(*cheapest)
    assert load_scenario("best.yaml").pools[0].hardware == "l40s"
    found = json.loads(run(*densest, "--json"))
    assert found["best"]["settings"]["pools.0.hardware"] == "h100-sxm"
    assert found["stopped"] in ("", "out of probes")
