"""Whole steps composed from kernels against measured ones; docs/background/accuracy.md states the errors."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simserve.cost.calibrate.silicon_runs import SiliconRuns
from simserve.cost.calibrate.steps import DistServeSteps, SplitwiseSteps
from simserve.cost.kernel_calibration import KernelCalibration
from simserve.scenario.catalog import load_calibration, load_generic_calibration, load_hardware


@cache
def calibration_of(hardware: str) -> KernelCalibration:
    accelerator = load_hardware(hardware)
    return KernelCalibration(accelerator, load_calibration(accelerator), load_generic_calibration())


def errors_of(rows: pd.DataFrame) -> pd.Series[float]:
    used = rows[rows.split == "unseen"]
    return (used.predicted_s / used.seconds - 1).abs() * 100


@pytest.fixture(scope="module")
def silicon(data_dir: Path) -> pd.DataFrame:
    """Dense models under vLLM, with the columns of the table and the priced rows."""
    table = pd.read_parquet(data_dir / "kernels" / "e2e_aic_silicon.parquet")
    dense = table.model_path.isin(["meta-llama/Llama-3.1-70B", "Qwen/Qwen3-32B"])
    table = table[dense & (table.backend == "vllm")].reset_index(drop=True)
    return SiliconRuns().rows("e2e_aic_silicon", table, calibration_of)


@pytest.mark.parametrize(("hardware", "bound"), [("h100_sxm", 6), ("h200_sxm", 7), ("b200_sxm", 9)])
def test_tpot_of_llama_70b_in_fp8(silicon: pd.DataFrame, hardware: str, bound: float) -> None:
    chosen = silicon[
        (silicon.hardware == hardware) & (silicon.dtype == "fp8") & silicon.op.str.endswith("Llama-3.1-70B")
    ]
    errors = errors_of(chosen)
    assert len(errors) >= 15
    assert errors.mean() < bound


def test_tpot_of_all_dense_runs(silicon: pd.DataFrame) -> None:
    errors = errors_of(silicon)
    assert len(errors) > 100
    assert errors.median() < 8


def test_every_row_is_told_apart(data_dir: Path) -> None:
    table = (
        pd.read_parquet(data_dir / "kernels" / "e2e_aic_silicon.parquet").iloc[::40].reset_index(drop=True)
    )
    rows = SiliconRuns().rows("e2e_aic_silicon", table, calibration_of)
    assert len(rows) == len(table)
    unpriced = rows.predicted_s.isna()
    assert (rows.split[unpriced] == "excluded").all()
    assert (rows.excluded[unpriced] != "").all()
    assert (rows.predicted_s[~unpriced] > 0).all()


def test_engines_of_2023(data_dir: Path) -> None:
    splitwise = pd.read_parquet(data_dir / "kernels" / "step_splitwise.parquet")
    errors = errors_of(SplitwiseSteps().rows("step_splitwise", splitwise, calibration_of))
    assert errors.mean() < 13
    fits = pd.read_parquet(data_dir / "kernels" / "step_distserve_fits.parquet")
    rows = DistServeSteps().rows("step_distserve_fits", fits, calibration_of)
    own = errors_of(rows[rows.framework == "distserve"])
    assert own.mean() < 20
    assert np.isfinite(rows.predicted_s[rows.split == "unseen"]).all()
