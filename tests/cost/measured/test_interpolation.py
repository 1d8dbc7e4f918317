"""Measured times between measurements: exact on them, ascending between, and never outside of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simserve.cost.measured.interpolation import interpolate_inside


def grid(*axes: list[float]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    meshes = np.meshgrid(*axes, indexing="ij")
    return np.column_stack([mesh.reshape(-1) for mesh in meshes]).astype(np.float64)


def test_measured_points_come_back() -> None:
    points = grid([1, 4, 16], [128, 1024, 8192])
    seconds = 1e-6 * (5 + points[:, 0] * points[:, 1] / 100)
    assert interpolate_inside(points, seconds, points) == pytest.approx(seconds)


def test_a_power_law_is_met_between_the_points() -> None:
    points = grid([64, 512, 4096], [128, 1024, 8192])
    seconds = 1e-9 * (points[:, 0] + 1) * (points[:, 1] + 1) ** 0.5
    wanted = np.array([[100.0, 200.0], [2000.0, 5000.0]])
    expected = 1e-9 * (wanted[:, 0] + 1) * (wanted[:, 1] + 1) ** 0.5
    assert interpolate_inside(points, seconds, wanted) == pytest.approx(expected)


def test_outside_of_the_range_there_is_no_answer() -> None:
    points = grid([1, 16], [128, 1024])
    seconds = np.full(len(points), 1e-5)
    wanted = np.array([[1, 127], [1, 1025], [0, 200], [17, 200], [16, 1024]], dtype=np.float64)
    found = interpolate_inside(points, seconds, wanted)
    assert np.isnan(found).tolist() == [True, True, True, True, False]


def test_a_line_that_ends_early_gives_way_to_the_next_one() -> None:
    """Batch 8 was measured up to 100 tokens only: at 1,000 tokens batches 4 and 16 answer for it."""
    points = np.array([[4, 10], [4, 10_000], [8, 10], [8, 100], [16, 10], [16, 10_000]], dtype=np.float64)
    seconds = np.array([1.0, 4.0, 2.0, 3.0, 4.0, 16.0])
    inside, outside = interpolate_inside(points, seconds, np.array([[8.0, 1000.0], [20.0, 1000.0]]))
    ends = interpolate_inside(points, seconds, np.array([[4.0, 1000.0], [16.0, 1000.0]]))
    assert ends[0] < inside < ends[1]
    assert np.isnan(outside)


def test_repeated_measurements_count_by_their_geometric_mean() -> None:
    points = np.array([[1.0], [1.0], [2.0]])
    assert interpolate_inside(points, np.array([1.0, 4.0, 9.0]), np.array([[1.0]])) == pytest.approx([2.0])


@given(st.lists(st.floats(1, 1e5), min_size=2, max_size=20), st.integers(0, 2**32 - 1))
def test_ascending_measurements_stay_ascending(sizes: list[float], seed: int) -> None:
    nodes = np.unique(np.array(sizes))
    steps = np.random.default_rng(seed).uniform(0.0, 1.0, len(nodes))
    wanted = np.linspace(nodes[0], nodes[-1], 50)
    found = interpolate_inside(nodes[:, None], np.cumsum(1e-6 + steps), wanted[:, None])
    assert (np.diff(found[~np.isnan(found)]) >= -1e-12).all()
