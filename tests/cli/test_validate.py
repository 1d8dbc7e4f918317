"""`simserve validate`: what it prints, its exit status, and the page of plots."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from simserve.cli.entry import app
from simserve.cli.validate import cost_section
from simserve.errors import InputError

FACTS = """\
engine: vllm
engine_version: 0.19.0
hardware_id: h100-sxm
model: meta-llama/Llama-3.1-8B
num_gpu_blocks: 4000
"""
ROWS = """\
request_id,due_s,sent_s,prompt_tokens,output_tokens,prompt_id,ttft_s,tpot_s,e2el_s
0,0.0,0.0,500,20,,0.02,0.0063,0.14
1,0.5,0.5,400,20,,0.02,0.0063,0.14
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "chat"
    folder.mkdir()
    (folder / "run.yaml").write_text(FACTS)
    with gzip.open(folder / "measured.csv.gz", "wt") as file:
        file.write(ROWS)
    return folder


def validate(*arguments: str) -> Result:
    result = CliRunner().invoke(app, ["validate", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_the_table(folder: Path) -> None:
    result = validate(str(folder))
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "chat: 2 requests"
    rows = {line.split("  ")[0].strip(): line.split() for line in lines[2:24]}
    assert rows["TTFT mean, ms"][3] == "20.00"
    assert rows["ITL mean, ms"][3] == "-"
    assert rows["ITL mean, ms"][-2:] == ["not", "measured"]
    assert "client and server (HTTP, tokenizer, detokenizer): " in result.stdout
    assert "Kolmogorov distance of E2EL: " in result.stdout


def test_json_is_all_there_is(folder: Path) -> None:
    result = validate(str(folder), "--json")
    found = json.loads(result.stdout)
    assert [run["run"] for run in found["runs"]] == ["chat"]
    assert found["runs"][0]["metrics"]["e2el_mean_s"]["measured"] == pytest.approx(0.14)
    assert found["skipped"] == []


def test_one_bad_run_does_not_hide_the_others(folder: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "run.yaml").write_text(FACTS + "colour: red\n")
    result = validate(str(bad), str(folder), str(tmp_path / "none"), "--json")
    assert result.exit_code == 2
    found = json.loads(result.stdout)
    assert [run["run"] for run in found["runs"]] == ["chat"]
    assert [skipped["run"] for skipped in found["skipped"]] == [str(bad), str(tmp_path / "none")]
    assert "run.yaml:6:1: unknown key 'colour'" in found["skipped"][0]["reason"]
    assert "no such folder; expected one with run.yaml and measured.csv.gz" in result.stderr


def test_several_runs_end_with_an_overview(folder: Path) -> None:
    result = validate(str(folder), str(folder))
    assert result.stdout.splitlines()[-3].split()[:4] == ["run", "TTFT", "TPOT", "E2EL"]
    assert result.stdout.count("within bounds") == 1


def test_strict_fails_where_a_bound_does_not_hold(folder: Path) -> None:
    with gzip.open(folder / "measured.csv.gz", "wt") as file:
        file.write(ROWS.replace("0.14", "9.14"))
    assert validate(str(folder)).exit_code == 0
    assert validate(str(folder), "--strict").exit_code == 1


def test_a_page_of_plots(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    result = validate(str(folder), "--html", str(tmp_path / "out"))
    page = (tmp_path / "out" / "chat.html").read_text(encoding="utf-8")
    assert f"written to {tmp_path / 'out' / 'chat.html'}" in result.stdout
    for text in ("Cumulative distributions", "Requests waiting and running", "e2el_p99_s"):
        assert text in page
    assert "<script src" not in page, "the page must work without a network"


def test_a_page_without_plotly_is_refused_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simserve.report.validation_page.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs plotly: pip install 'simserve\[dashboard\]'"):
        validate(str(folder), "--html", "out")


def test_where_step_times_come_from() -> None:
    assert cost_section("analytic", []) == {"kind": "analytic"}
    assert cost_section("measured", []) == {"kind": "measured", "tables": [], "aic": "vllm"}
    assert cost_section("measured", ["/a"]) == {"kind": "measured", "tables": ["/a"], "aic": None}
    with pytest.raises(InputError, match="they go with --cost measured"):
        cost_section("analytic", ["/a"])


def test_a_benchmark_needs_its_servers(tmp_path: Path) -> None:
    result = validate(str(tmp_path / "r.json"))
    assert result.exit_code == 2
    assert "a benchmark's result needs --scenario" in result.stderr
