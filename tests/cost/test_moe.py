"""Experts: how many a batch activates, and what their kernel costs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simserve.cost.fitted_kernel import describe_device
from simserve.cost.kernel_calibration import KernelCalibration
from simserve.cost.kernels.expert_load import ACTIVATED, BALANCED, PICKS, RANDOM, load_columns, load_table
from simserve.cost.kernels.form import Array
from simserve.cost.kernels.moe import MoeForm, moe_form, moe_loads
from simserve.scenario.catalog import load_calibration, load_hardware

H100 = describe_device(load_hardware("h100-sxm"), "bfloat16")
CONSTANTS = {parameter.name: parameter.start for parameter in MoeForm.parameters}
TOKENS = np.array([1.0, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 4096, 16384])


def shapes_of(tokens: Array, **changed: float) -> dict[str, Array]:
    sizes = {
        "hidden": 4096, "inter": 1536, "topk": 8, "experts": 128, "moe_tp": 1, "moe_ep": 1,
        "skew": RANDOM, "activated": -1, "gated": 1, "weight_bytes": 2, "activation_bytes": 2,
    }  # fmt: skip
    return {
        "tokens": tokens,
        **{name: np.full_like(tokens, value) for name, value in {**sizes, **changed}.items()},
    }


def test_balanced_routing_walks_over_the_experts() -> None:
    loads = load_columns(np.array([1.0, 4, 16, 1024]), (128, 8, 1, BALANCED))
    assert loads[:, ACTIVATED] == pytest.approx([8, 32, 128, 128])
    assert loads[:, PICKS] == pytest.approx([8, 32, 128, 8192])
    # 64 picks of each expert fill tiles of 64 exactly, and half of those of 128.
    assert loads[3, 2:] == pytest.approx([8192, 8192, 8192, 8192, 16384])


def test_random_routing_activates_the_expected_number() -> None:
    for experts, picks in ((128, 8), (8, 2), (256, 8)):
        loads = load_columns(np.array([1.0, 16, 256]), (experts, picks, 1, RANDOM))
        expected = experts * (1 - (1 - picks / experts) ** np.array([1.0, 16, 256]))
        assert loads[:, ACTIVATED] == pytest.approx(expected, rel=0.12)
        assert loads[2, PICKS] == pytest.approx(256 * picks, rel=0.03)


def test_a_power_law_overloads_one_rank() -> None:
    even, skewed = (load_columns(np.array([4096.0]), (128, 8, 16, skew))[0] for skew in (BALANCED, 1.2))
    assert even[PICKS] == pytest.approx(4096 * 8 / 16)
    assert 1.5 * even[PICKS] < skewed[PICKS] < 8 * even[PICKS]


@given(
    st.sampled_from([(128, 8), (256, 8), (512, 10), (8, 2), (32, 4)]),
    st.sampled_from([1, 2, 8]),
    st.sampled_from([BALANCED, RANDOM, 1.01, 1.2]),
)
def test_loads_ascend_and_hold_every_pick(model: tuple[int, int], ranks: int, skew: float) -> None:
    experts, picks = model
    table = load_table(experts, picks, ranks, skew)
    assert (np.diff(table, axis=0) >= 0).all()
    assert (table[:, ACTIVATED] <= experts // ranks + 1e-9).all()
    # A tile holds no less than its picks, a taller one no less than a shorter one.
    assert (np.diff(table[:, PICKS:], axis=1) >= -1e-9).all()


def test_loads_beyond_the_table_grow_with_the_tokens() -> None:
    near, far = load_columns(np.array([2.0**20, 2.0**22]), (128, 8, 1, BALANCED))
    assert far[PICKS] == pytest.approx(4 * near[PICKS])
    assert far[ACTIVATED] == pytest.approx(near[ACTIVATED]) == pytest.approx(128)


@pytest.mark.parametrize("skew", [BALANCED, RANDOM, 1.2])
@pytest.mark.parametrize("sizes", [{}, {"moe_ep": 8}, {"moe_tp": 4}, {"gated": 0, "topk": 2, "experts": 8}])
def test_no_expert_kernel_beats_the_peaks_nor_gets_faster_with_tokens(
    skew: float, sizes: dict[str, float]
) -> None:
    shapes = shapes_of(TOKENS, skew=skew, **sizes)
    loads, seconds = moe_loads(shapes), moe_form().seconds(shapes, CONSTANTS, H100, warm=False)
    matrices = (2 + shapes["gated"]) * shapes["hidden"] * shapes["inter"] / shapes["moe_tp"]
    moved = loads["activated"] * matrices * 2 + loads["picks"] * shapes["hidden"] * 2
    assert (2 * loads["picks"] * matrices / seconds <= H100.flops_per_s).all()
    assert (moved / seconds <= H100.bytes_per_s).all()
    assert (np.diff(seconds) >= 0).all()


@given(st.integers(1, 20000), st.sampled_from([1, 4, 16]), st.sampled_from([BALANCED, RANDOM, 1.01]))
def test_neighbouring_batches_show_no_dip(tokens: int, ranks: int, skew: float) -> None:
    shapes = shapes_of(np.array([tokens, tokens + 1.0, 2.0 * tokens]), moe_ep=ranks, skew=skew)
    near, next_one, double = moe_form().seconds(shapes, CONSTANTS, H100, warm=False)
    assert next_one >= 0.95 * near
    assert double >= near


def test_untuned_kernels_take_tall_tiles_as_soon_as_tokens_outnumber_the_experts() -> None:
    shapes = shapes_of(np.array([128.0, 129.0, 16384.0]))
    tuned, untuned = (
        moe_form().seconds(shapes, {**CONSTANTS, "default_tiles": share}, H100, warm=False)
        for share in (0.0, 1.0)
    )
    assert (untuned >= tuned).all()
    # Eight picks an expert fill an eighth of a tile of 64 rows.
    assert untuned[1] / tuned[1] > untuned[0] / tuned[0]
    assert (np.diff(untuned) >= 0).all()


@pytest.mark.parametrize(("ranks", "slower"), [(128, True), (64, False)])
def test_a_lone_expert_reads_its_weights_slowly(ranks: int, slower: bool) -> None:
    shapes = shapes_of(np.array([64.0]), moe_ep=ranks)
    usual, slow = (
        moe_form().seconds(shapes, {**CONSTANTS, "lone_share": share}, H100, warm=False)[0]
        for share in (1.0, 0.2)
    )
    assert slow > 1.2 * usual if slower else slow == usual


def test_a_warm_benchmark_is_no_slower_than_serving() -> None:
    shapes = shapes_of(TOKENS, moe_ep=64)
    warm, cold = (moe_form().seconds(shapes, CONSTANTS, H100, warm=warm) for warm in (True, False))
    assert (warm <= cold).all()
    assert warm[0] < cold[0]


def test_given_activated_experts_decide_the_bytes() -> None:
    few, many = (
        moe_form().seconds(shapes_of(np.array([64.0]), activated=active), CONSTANTS, H100, warm=False)[0]
        for active in (8, 128)
    )
    weights = 3 * 4096 * 1536 * 2
    assert many - few >= 110 * weights / H100.bytes_per_s


@pytest.mark.parametrize("hardware", ["a100-sxm-80gb", "h100-sxm", "b200-sxm", "l40s", "mi300x"])
@pytest.mark.parametrize(("dtype", "width"), [("bfloat16", 2.0), ("fp8_block", 1.0)])
def test_shipped_fits_serve_within_the_peaks_and_without_dips(
    hardware: str, dtype: str, width: float
) -> None:
    accelerator = load_hardware(hardware)
    kernel = KernelCalibration(accelerator, load_calibration(accelerator)).kernel("moe", dtype)
    tokens = np.unique(np.round(2 ** np.arange(0, 14.01, 0.05)))
    for sizes in ({}, {"moe_ep": 8}, {"moe_tp": 8}):
        shapes = shapes_of(tokens, weight_bytes=width, activation_bytes=width, **sizes)
        seconds = kernel.seconds(shapes)
        loads = moe_loads(shapes)
        matrices = 3 * shapes["hidden"] * shapes["inter"] / shapes["moe_tp"]
        assert (
            loads["activated"] * matrices * width / seconds <= accelerator.memory_bandwidth_bytes_per_s
        ).all()
        assert (2 * loads["picks"] * matrices / seconds <= accelerator.peak_for("fp8")).all()
        assert (seconds[1:] >= 0.95 * seconds[:-1]).all()
        for first in (1, 3, 5, 7):
            doubled = np.interp(first * 2.0 ** np.arange(11), tokens, seconds)
            assert (np.diff(doubled) >= 0).all()
