"""Kernels that only move data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simserve.cost.fitted_kernel import describe_device
from simserve.cost.kernels.elementwise import ElementwiseForm
from simserve.cost.kernels.form import Array
from simserve.scenario.catalog import load_hardware

H100 = describe_device(load_hardware("h100-sxm"), "bfloat16")
CONSTANTS = {parameter.name: parameter.start for parameter in ElementwiseForm.parameters}


def seconds(tokens: Array, width: float, *, warm: bool = False, **constants: float) -> Array:
    shapes = {"tokens": tokens, "bytes": 4.0 * width * tokens, "width": np.full_like(tokens, width)}
    return ElementwiseForm().seconds(shapes, {**CONSTANTS, **constants}, H100, warm=warm)


def test_a_small_kernel_takes_a_launch_and_a_large_one_the_bandwidth() -> None:
    small, large = seconds(np.array([1.0, 1e6]), 4096.0)
    assert small == pytest.approx(CONSTANTS["overhead_s"], rel=0.3)
    assert large == pytest.approx(4 * 4096 * 1e6 / (0.8 * H100.bytes_per_s), rel=0.02)


def test_a_long_row_takes_its_time_however_few_rows_there_are() -> None:
    slow = {"row_s": 1e-9, "element_s": 1e-9}
    one, full, twice = seconds(np.array([1.0, 4 * H100.sms, 8 * H100.sms]), 8192.0, **slow)
    assert one >= 1e-9 * 8192
    assert one == pytest.approx(full, rel=0.15)
    assert twice > 1.5 * full


@given(st.floats(1, 1e6), st.sampled_from([128.0, 4096.0, 28672.0]))
def test_no_kernel_beats_the_bandwidth_nor_gets_faster_with_rows(tokens: float, width: float) -> None:
    times = seconds(np.array([tokens, tokens * 1.01, tokens * 2]), width)
    assert (np.diff(times) >= 0).all()
    assert (4.0 * width * np.array([tokens, tokens * 1.01, tokens * 2]) / times <= H100.bytes_per_s).all()


def test_benchmarks_find_operands_in_the_cache() -> None:
    tokens = np.array([512.0, 1e6])
    warm, cold = seconds(tokens, 8192.0, warm=True), seconds(tokens, 8192.0)
    assert warm[0] < 0.8 * cold[0]
    assert warm[1] == pytest.approx(cold[1], rel=0.01)


def test_operands_that_outgrow_their_share_of_the_cache_lose_most_of_what_it_held() -> None:
    """Just beyond the share time jumps; the rate of further bytes is the memory's in both cases."""
    per_token, share = 4 * 8192.0, 0.5
    edge = share * H100.l2_bytes / per_token
    tokens = np.array([0.7, 1.4, 2.8]) * edge
    kept, lost = (seconds(tokens, 8192.0, warm=True, l2_share=share, l2_kept=part) for part in (1.0, 0.3))
    assert lost[0] == pytest.approx(kept[0], rel=0.02)
    assert lost[1] > 1.2 * kept[1]
    assert np.diff(lost)[1] == pytest.approx(np.diff(kept)[1], rel=0.02)
