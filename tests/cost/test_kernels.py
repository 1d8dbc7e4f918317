"""Plain roofline kernels against closed forms."""

from __future__ import annotations

from math import inf

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from simserve.cost.kernels.form import smooth_maximum

times = st.floats(0, 10, allow_nan=False)


@given(times, times, st.floats(1, 50))
def test_the_smooth_maximum_lies_between_maximum_and_sum(a: float, b: float, p: float) -> None:
    value = smooth_maximum(np.array([a]), np.array([b]), p)[0]
    assert max(a, b) * (1 - 1e-12) <= value <= (a + b) * (1 + 1e-12)


def test_the_smooth_maximum_has_its_closed_forms() -> None:
    a, b = np.array([3.0, 0.0]), np.array([4.0, 0.0])
    assert smooth_maximum(a, b, 2.0).tolist() == [5.0, 0.0]
    assert smooth_maximum(a, b, 1.0).tolist() == [7.0, 0.0]
    assert smooth_maximum(a, b, inf).tolist() == [4.0, 0.0]
