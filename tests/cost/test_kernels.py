"""Kernels and collectives against closed forms."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simserve.cost.collectives import AllReduceConstants, Collectives, Link, build_collectives, link_between
from simserve.cost.kernels.roofline import KernelConstants, build_kernel, smooth_maximum
from simserve.scenario.catalog import load_hardware

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


def test_all_reduce_takes_the_faster_of_its_two_forms() -> None:
    link = Link("NVLink4", 450e9, scale_up=True)
    constants = AllReduceConstants(4e-6, 200e9, 10e-6, 300e9)
    group = Collectives(4, link, constants, link)
    small, large, none = group.all_reduce_s(np.array([1000.0, 3e8, 0.0]))
    assert small == pytest.approx(4e-6)
    assert large == pytest.approx(2 * 3 / 4 * 3e8 / 300e9)
    assert none == 0.0


@pytest.mark.parametrize("hardware", ["h100-sxm", "l40s", "gb200", "mi300x", "rtx-4090"])
@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
def test_collectives_never_beat_the_link_nor_speed_up_with_size(hardware: str, ranks: int) -> None:
    group = build_collectives(load_hardware(hardware), ranks, 1, None)
    message = np.array([2.0**i for i in range(10, 31)])
    seconds = group.all_reduce_s(message)
    assert (np.diff(seconds) >= 0).all()
    if ranks == 1:
        assert not seconds.any()
    else:
        received = message * 2 * (ranks - 1) / ranks
        assert (received / seconds <= link_between(load_hardware(hardware), ranks).bytes_per_s).all()


def test_ranks_beyond_the_scale_up_domain_talk_over_pcie() -> None:
    h100, l40s = load_hardware("h100-sxm"), load_hardware("l40s")
    assert link_between(h100, 8).bytes_per_s == h100.link_bytes_per_s
    assert link_between(h100, 16).bytes_per_s == h100.pcie_bytes_per_s
    assert not link_between(l40s, 2).scale_up
