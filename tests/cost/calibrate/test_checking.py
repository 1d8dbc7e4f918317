"""Every row of every table is counted once, priced by the best tier, and told apart by what was fitted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simserve.cli.calibration import FitOptions, fit_file
from simserve.cost.calibrate.checking import KEYS, Condition, check_report
from simserve.errors import InputError
from simserve.scenario.calibrations import CatalogCalibrations

MakeTable = Callable[..., pd.DataFrame]
SEEN = (1024, 2048, 4096, 8192)
OPTIONS = FitOptions(frozenset(), "2026-01-02", "made up", None, True)


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory, gemm_table: MakeTable) -> str:
    folder = tmp_path_factory.mktemp("fit")
    gemm_table(sizes=SEEN).to_parquet(folder / "gemm.parquet")
    fit_file(str(folder / "gemm.parquet"), "h100-sxm", str(folder / "h100.yaml"), OPTIONS)
    return str(folder / "h100.yaml")


@pytest.fixture
def folder(tmp_path: Path, gemm_table: MakeTable) -> Path:
    tables = [
        gemm_table(sizes=(1024, 3072)),
        gemm_table(hardware="unheard-of"),
        gemm_table(dtype="fp8_block"),
        gemm_table(framework="other"),
    ]
    pd.concat(tables).to_parquet(tmp_path / "gemm.parquet")
    pd.DataFrame({"hardware": ["h100_sxm", "x"], "value": [1, 2]}).to_csv(tmp_path / "notes.csv", index=False)
    return tmp_path


def test_every_row_is_counted_once(folder: Path, calibration: str) -> None:
    report = check_report(folder, CatalogCalibrations(calibration))
    assert report["rows_read"] == 40 + 3 * 810 + 2
    assert sum(row["n"] for row in report["rows"]) == report["rows_read"]
    assert len({tuple(row[key] for key in KEYS) for row in report["rows"]}) == len(report["rows"])


def test_splits_and_tiers(folder: Path, calibration: str) -> None:
    rows = check_report(folder, CatalogCalibrations(calibration))["rows"]

    def some(**wanted: str) -> list[dict[str, object]]:
        return [row for row in rows if all(row[key] == value for key, value in wanted.items())]

    mine = some(hardware="h100_sxm", framework="vllm", dtype="bfloat16")
    assert {row["tier"] for row in mine} == {"calibrated"}
    assert sum(row["n"] for row in mine if row["split"] == "seen") == 10
    assert sum(row["n"] for row in mine if row["split"] == "unseen") == 30
    assert all(row["mape"] < 3 for row in mine)
    assert {row["tier"] for row in some(hardware="unheard-of")} == {"generic"}
    assert {row["split"] for row in some(hardware="unheard-of")} == {"unseen"}
    assert {row["tier"] for row in some(framework="other")} == {"stand-in"}
    floor = some(dtype="fp8_block", framework="vllm")
    assert {row["split"] for row in floor} == {"excluded"}
    assert all("eager-launch floor" in str(row["reason"]) for row in floor)
    notes = some(op="notes")
    assert [(row["split"], row["n"], row["mape"]) for row in notes] == [("excluded", 1, None)] * 2


def test_sizes_go_by_measured_time(folder: Path, calibration: str) -> None:
    rows = check_report(folder, CatalogCalibrations(calibration))["rows"]
    table = pd.read_parquet(folder / "gemm.parquet")
    short = int((table["time_us"] < 20).sum())
    assert sum(row["n"] for row in rows if row["size"] == "lt20us") == short
    assert {row["size"] for row in rows} == {"lt20us", "lt200us", "ge200us"}


def test_serving_is_slower_than_a_warm_benchmark(folder: Path, calibration: str) -> None:
    warm = check_report(folder, CatalogCalibrations(calibration))["rows"]
    cold = check_report(folder, CatalogCalibrations(calibration), Condition.COLD)["rows"]
    small = [
        (first["bias"], second["bias"])
        for first, second in zip(warm, cold, strict=True)
        if first["op"] == "gemm/gemm" and first["size"] == "lt20us"
    ]
    assert small
    assert np.mean([second - first for first, second in small]) > 0


def test_a_file_of_an_accelerator_in_no_catalog_is_refused(tmp_path: Path, calibration: str) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(Path(calibration).read_text().replace('"h100-sxm"', '"my-gpu"', 1))
    with pytest.raises(InputError, match="catalog has no 'my-gpu'; name its hardware file with --hardware"):
        CatalogCalibrations(str(mine))


def test_processes_change_no_fit(tmp_path: Path, gemm_table: MakeTable) -> None:
    tables = [gemm_table(sizes=SEEN), gemm_table(framework="other", sizes=SEEN)]
    pd.concat(tables).to_parquet(tmp_path / "gemm.parquet")
    files = []
    for workers in (1, 2):
        files.append(tmp_path / f"{workers}.yaml")
        options = OPTIONS._replace(workers=workers)
        fit_file(str(tmp_path / "gemm.parquet"), "h100-sxm", str(files[-1]), options)
    assert files[0].read_text() == files[1].read_text()
