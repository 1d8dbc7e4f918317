"""Fits find the constants that made the rows, and state errors of shapes that they did not see."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from simserve.cost.calibrate.fitting import fit_constants, shape_columns, thin_rows
from simserve.cost.calibrate.gemm import GemmFamily
from simserve.cost.calibrate.validation import fit_group, fold_of, measure_errors
from simserve.cost.fitted_kernel import describe_device
from simserve.cost.kernels.gemm import GemmForm
from simserve.scenario.catalog import load_hardware

DEVICE = describe_device(load_hardware("h100-sxm"), "bfloat16")


@pytest.fixture(scope="module")
def rows(gemm_table: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    return GemmFamily().rows("gemm", gemm_table())


def test_a_fit_finds_what_made_the_rows(rows: pd.DataFrame) -> None:
    constants = fit_constants(GemmForm(), rows, DEVICE)
    predicted = GemmForm().seconds(shape_columns(rows), constants, DEVICE, warm=True)
    assert measure_errors(predicted, rows["seconds"].to_numpy()).mape < 1.0
    assert constants["overhead_s"] == pytest.approx(4e-6, rel=0.1)


def test_a_fit_is_the_same_again_and_in_any_order(rows: pd.DataFrame) -> None:
    first = fit_constants(GemmForm(), rows, DEVICE)
    assert fit_constants(GemmForm(), rows.sample(frac=1, random_state=1), DEVICE) == first


def test_constants_stay_within_their_bounds(rows: pd.DataFrame) -> None:
    wild = rows.assign(seconds=rows["seconds"] / 50)
    constants = fit_constants(GemmForm(), wild, DEVICE)
    for parameter in GemmForm.parameters:
        assert parameter.low <= constants[parameter.name] <= parameter.high


def test_thin_rows_keep_every_shape_and_weigh_them_alike(rows: pd.DataFrame) -> None:
    uneven = pd.concat([rows, *[rows[rows["shape"] == "256x256"]] * 30])
    thin = thin_rows(uneven, 300)
    assert set(thin["shape"]) == set(rows["shape"])
    assert thin["shape"].value_counts().max() <= 2 * thin["shape"].value_counts().min()
    assert len(thin) <= 350


def test_folds_split_shapes_and_not_rows(rows: pd.DataFrame) -> None:
    fold = pd.Series(fold_of(rows["shape"]))
    assert (fold.groupby(rows["shape"].astype(str)).nunique() == 1).all()
    assert sorted(fold.unique()) == [0, 1, 2, 3, 4]


def test_residuals_are_kept_only_where_they_help(rows: pd.DataFrame) -> None:
    exact = fit_group(GemmFamily(), "", rows, DEVICE)
    assert exact.residuals is None
    bump = 1 + 0.4 * np.sin(np.log(rows["k"]) * 1.5) * np.sin(np.log(rows["n"]))
    bumpy = fit_group(GemmFamily(), "", rows.assign(seconds=rows["seconds"] * bump), DEVICE)
    assert bumpy.residuals is not None
    assert bumpy.error is not None
    assert bumpy.error.mape < 7.0


def test_one_shape_states_no_error(rows: pd.DataFrame) -> None:
    assert fit_group(GemmFamily(), "", rows[rows["shape"] == "4096x4096"], DEVICE).error is None


def test_errors_are_percent_of_the_measurement() -> None:
    errors = measure_errors(np.array([1.1, 0.8, 1.0, 2.0]), np.ones(4))
    assert errors.mape == pytest.approx(32.5)
    assert errors.median_ape == pytest.approx(15.0)
    assert errors.bias == pytest.approx(22.5)
