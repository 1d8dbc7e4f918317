"""Residual grids: estimated where rows were measured, stored in a byte a node, ascending when serving."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simserve.cost.calibrate.files import encode_residuals
from simserve.cost.calibrate.residuals import MAX_NODES, fit_residuals, krige, place_axes
from simserve.cost.calibration_file import decode_residuals
from simserve.cost.fitted_kernel import ascend
from simserve.cost.residual_grid import Axis, interpolate, nodes_around
from simserve.errors import InputError

AXES = (("m", 2.0), ("n", 1.0))
M, N = (values.reshape(-1) for values in np.meshgrid(2.0 ** np.arange(8), 2.0 ** np.arange(5, 12)))
FIELD = 0.3 * np.sin(np.log(M)) - 0.2 * np.log2(N / 256) / 3


def test_a_grid_gives_back_the_rows_it_was_fitted_to() -> None:
    grid = fit_residuals(AXES, {"m": M, "n": N}, FIELD)
    assert np.log(grid.factors({"m": M, "n": N})) == pytest.approx(FIELD, abs=0.03)


def test_between_the_rows_a_grid_is_between_them() -> None:
    grid = fit_residuals(AXES, {"m": M, "n": N}, FIELD)
    middle = np.log(grid.factors({"m": np.array([3.0]), "n": np.array([300.0])}))
    assert middle == pytest.approx(0.3 * np.sin(np.log(3)) - 0.2 * np.log2(300 / 256) / 3, abs=0.05)


def test_kriging_goes_to_zero_far_away() -> None:
    points = np.array([[0.0, 0.0], [1.0, 0.0]])
    far = krige(points, np.array([0.5, 0.5]), np.array([[40.0, 0.0]]))
    assert far == pytest.approx([0.0], abs=1e-6)


def test_a_grid_survives_its_file() -> None:
    grid = fit_residuals(AXES, {"m": M, "n": N}, FIELD)
    again = decode_residuals(encode_residuals(grid))
    assert np.array_equal(again.steps, grid.steps)
    assert [axis.name for axis in again.axes] == ["m", "n"]
    with pytest.raises(InputError, match="residuals"):
        decode_residuals({"axes": {"m": [1, 2]}, "steps": "????"})


def test_grids_stay_small() -> None:
    many = {name: np.arange(1.0, 200.0) for name in "mnk"}
    axes = place_axes(list("mnk"), many)
    assert np.prod([len(axis.nodes) for axis in axes]) <= MAX_NODES
    assert all(axis.nodes[0] == 1 and axis.nodes[-1] == 199 for axis in axes)


@given(st.lists(st.floats(-5, 5), min_size=24, max_size=24))
def test_an_ascending_table_interpolates_to_ascending_times(values: list[float]) -> None:
    table = ascend(np.array(values).reshape(4, 6))
    assert (np.diff(table, axis=0) >= -1e-12).all()
    assert (np.diff(table, axis=1) >= -1e-12).all()
    axes = (Axis("m", np.array([1.0, 4.0, 9.0, 100.0])), Axis("n", np.geomspace(1, 1000, 6)))
    walk = np.geomspace(0.5, 200, 60)
    for fixed, moving in (("m", "n"), ("n", "m")):
        path = interpolate(axes, table, {moving: walk, fixed: np.full(60, 7.0)})
        assert (np.diff(path) >= -1e-9).all()


@given(st.lists(st.floats(0, 5), min_size=12, max_size=12))
def test_what_ascends_already_stays(values: list[float]) -> None:
    table = np.cumsum(np.cumsum(np.array(values).reshape(3, 4), axis=0), axis=1)
    assert ascend(table) == pytest.approx(table)


@given(st.lists(st.floats(0.5, 2000), min_size=1, max_size=9))
def test_only_the_nodes_around_rows_are_needed(values: list[float]) -> None:
    axes = (Axis("m", np.array([1.0, 4.0, 9.0, 100.0])), Axis("n", np.geomspace(1, 1000, 6)))
    rows = {"m": np.array(values), "n": np.array(values[::-1])}
    table = np.random.default_rng(0).normal(size=(4, 6))
    needed = nodes_around(axes, rows).reshape(4, 6)
    elsewhere = np.where(needed, table, 99.0)
    assert interpolate(axes, elsewhere, rows) == pytest.approx(interpolate(axes, table, rows))
