"""`simserve calibrate` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simserve.cli.calibrate import app
from simserve.errors import InputError

HEADER = "hardware,framework,dtype,op,M,N,K,time_us\n"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """GEMMs of an L4 at 70 % of its peaks and 5 us."""
    rows = [HEADER]
    for n in (512, 1024, 2048, 3072, 4096):
        for k in (512, 1024, 2048, 4096):
            for m in (1, 16, 128, 1024, 4096):
                moved = 2 * (m * k + n * k + m * n)
                micros = max(2 * m * n * k / (0.7 * 121e6), moved / (0.7 * 300e3)) + 5
                rows.append(f"L4,vllm,bfloat16,gemm,{m},{n},{k},{micros:.4f}\n")
    path = tmp_path / "gemm.csv"
    path.write_text("".join(rows))
    return path


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_fit_then_check(table: Path, tmp_path: Path) -> None:
    out, plot = tmp_path / "l4.yaml", tmp_path / "l4.html"
    fitted = json.loads(run("fit", str(table), "--hardware", "l4", "--out", str(out), "--json"))
    assert [(fit["family"], fit["rows"], fit["shapes"]) for fit in fitted["fits"]] == [("gemm", 100, 20)]
    assert fitted["fits"][0]["error"]["mape"] < 8
    # A table of no family lies beside it.
    (tmp_path / "copies.csv").write_text("hardware,gb_per_s\nL4,230\n")
    run("check", str(tmp_path), "--calibration", str(out), "--plot", str(plot))
    report = json.loads(run("check", str(table), "--calibration", str(out), "--json", "--plot", str(plot)))
    assert report["rows_read"] == 100
    assert {(row["tier"], row["split"]) for row in report["rows"]} == {("calibrated", "seen")}
    page = plot.read_text()
    assert "measured, us" in page
    assert "<script src=" not in page
    assert "L4" in run("check", str(table), "--calibration", str(out), "--cold")
    unseen = json.loads(
        run("check", str(table), "--calibration", str(out), "--cross-validate", "--json", "--by", "op")
    )
    assert [(row["op"], row["n"]) for row in unseen["rows"]] == [("gemm/gemm", 100)]
    assert unseen["rows"][0]["mape"] == pytest.approx(fitted["fits"][0]["error"]["mape"], abs=0.5)


def test_the_same_rows_give_the_same_file(table: Path, tmp_path: Path) -> None:
    texts = []
    for name in ("a.yaml", "b.yaml"):
        run("fit", str(table), "--hardware", "l4", "--out", str(tmp_path / name), "--date", "2026-01-02")
        texts.append((tmp_path / name).read_bytes())
    assert texts[0] == texts[1]


def test_all_accelerators_at_once(table: Path, tmp_path: Path) -> None:
    table.write_text(table.read_text() + table.read_text().removeprefix(HEADER).replace("L4,", "a10,"))
    out = tmp_path / "out"
    run("fit", str(table), "--hardware", "all", "--out", str(out), "--family", "gemm")
    assert sorted(path.name for path in out.iterdir()) == ["a10.yaml", "generic.yaml", "l4.yaml"]
    assert '"left_out": {"a10": ' in (out / "generic.yaml").read_text()


def test_an_accelerator_of_ones_own(table: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "name: my-gpu\npeak_tflops: {bfloat16: 121}\nmemory_gb: 24\nmemory_bandwidth_gb_per_s: 300\nsms: 58\n"
    )
    table.write_text(table.read_text().replace("L4,", "My GPU,"))
    out, plot = str(tmp_path / "fit.yaml"), str(tmp_path / "fit.html")
    run("fit", str(table), "--hardware", str(mine), "--out", out, "--plot", plot)
    shared = ("check", str(table), "--calibration", out, "--by", "split", "--json")
    assert json.loads(run(*shared, "--hardware", str(mine)))["rows"][0]["tier"] == "calibrated"
    with pytest.raises(
        InputError, match=r"the catalog has no 'my-gpu'; name its hardware file with --hardware"
    ):
        run(*shared)
    generic = json.loads(run("check", str(table), "--by", "split", "--json"))
    assert generic["rows"][0]["tier"] == "generic"


def test_wrong_input_is_told(table: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no rows of h100-sxm"):
        run("fit", str(table), "--hardware", "h100-sxm", "--out", str(tmp_path / "x.yaml"))
    with pytest.raises(InputError, match=r"unknown key of the report 'ops'; did you mean 'op'\?"):
        run("check", str(table), "--by", "ops")
    table.write_text(HEADER + "L4,vllm,bfloat16,gemm,1,2,3,0\n")
    with pytest.raises(InputError, match=r"gemm\.csv:2: time_us: expected a number above 0"):
        run("check", str(table))
