"""What cannot work is refused with status 2 before anything is printed, run or written."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from simserve.cli.entry import run_app
from simserve.data_files import data_folder

GPUS = "recommend quickstart --slo 'ttft_p90<=1s' --objective gpus"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "recommend quickstart --slo 'ttft_p90<=1s' --hardware l40s,H100",
            "no price of l40s, h100-sxm is known; give one with --price l40s=USD --price h100-sxm=USD, or ",
        ),
        (f"{GPUS} --hardware h101", "unknown hardware 'h101'; did you mean 'h100'?"),
        (f"{GPUS} --hardware 4090", "unknown hardware '4090'; did you mean 'rtx-4090'?"),
        (f"{GPUS} --engine-kind vlm", "unknown engine 'vlm'; did you mean 'vllm'?"),
        (
            f"{GPUS} --axis engine.max_num_seq=4",
            "--axis engine.max_num_seq: unknown key 'pools.0.engine.max_nu",
        ),
        (f"{GPUS} --axis model=llama-3.1-8", "unknown model 'llama-3.1-8'; did you mean 'llama-3.1-8b'"),
        (f"{GPUS} --out folder", "folder: is a folder; expected the file to write"),
        ("sweep mine.yaml --out out", "mine.yaml: is a scenario: `simserve run mine.yaml` runs it"),
        ("sweep nope.yaml --out out", "file not found: nope.yaml (sought in the working directory)"),
        ("run folder", "folder: is a folder; expected a scenario's file"),
        ("run mine.yaml --set workload.trace.rate_scale=1e-300", "arrivals reach beyond 292 years"),
        ("conformance replay folder", "no decision log (*.json, *.json.gz) found in the given paths"),
        (
            "calibrate fit kernels.csv --hardware h100 --out folder",
            "folder: is a folder; expected the file to",
        ),
        (
            "calibrate fit kernels.csv --hardware all --out mine.yaml",
            "mine.yaml: is a file; expected the folder",
        ),
        (
            "validate nope",
            "nope: no such folder; expected one with run.yaml and measured.csv.gz; it is left out",
        ),
    ],
)
def test_refused(
    line: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "mine.yaml").write_text((data_folder("scenarios") / "quickstart.yaml").read_text())
    (tmp_path / "kernels.csv").write_text("a,b\n1,2\n")
    assert run_app(shlex.split(line)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"simserve: error: {message}")
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "mine.yaml", "kernels.csv"}


def test_a_shipped_scenario_makes_a_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_app(["trace", "generate", "made/load.csv", "--scenario", "quickstart"]) == 0
    assert capsys.readouterr().out == "made/load.csv: 500 requests\n"
    assert (tmp_path / "made" / "load.csv").is_file()
