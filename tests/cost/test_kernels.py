"""Plain roofline kernels against closed forms."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simserve.cost.kernels.roofline import KernelConstants, build_kernel, smooth_maximum

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


def test_a_kernel_is_a_roofline_with_a_launch() -> None:
    kernel = build_kernel(KernelConstants(0.5, 0.8, 1e-6), 100e12, 1e12)
    compute_bound, memory_bound, idle = kernel.seconds(np.array([50e9, 1.0, 0.0]), np.array([1.0, 8e8, 0.0]))
    assert compute_bound == pytest.approx(1e-3 + 1e-6)
    assert memory_bound == pytest.approx(1e-3 + 1e-6)
    assert idle == 0.0


def test_efficiencies_above_the_peak_are_capped() -> None:
    kernel = build_kernel(KernelConstants(1.3, 1.1, 0.0, p=0.4), 100e12, 1e12)
    assert (kernel.flops_per_s, kernel.bytes_per_s, kernel.p) == (100e12, 1e12, 1.0)
