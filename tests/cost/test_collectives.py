"""Collectives: their links, their floors, their growth with the message, and groups on several hosts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simserve.cost.collectives import Collectives, build_collectives
from simserve.cost.fitted_kernel import describe_device
from simserve.cost.kernel_calibration import KernelCalibration
from simserve.cost.kernels.collective import (
    ALL_GATHER,
    ALL_REDUCE,
    ALL_TO_ALL,
    OPERATIONS,
    REDUCE_SCATTER,
    CollectiveForm,
    in_switch_share,
    long_share,
)
from simserve.scenario.catalog import load_calibration, load_hardware

HARDWARE = ["h100-sxm", "l40s", "gb200", "mi300x", "rtx-4090", "b200-sxm"]
SIZES = 2.0 ** np.arange(4, 31)
MESSAGE = np.array([1e6])
GROUPS = (ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER, ALL_TO_ALL)


def shipped(hardware: str, ranks: int, stages: int = 1) -> Collectives:
    accelerator = load_hardware(hardware)
    return build_collectives(
        accelerator, ranks, stages, KernelCalibration(accelerator, load_calibration(accelerator))
    )


@pytest.mark.parametrize("hardware", HARDWARE)
@pytest.mark.parametrize("ranks", [2, 3, 4, 8, 16])
def test_no_collective_beats_the_link_nor_gets_faster_with_size(hardware: str, ranks: int) -> None:
    group = shipped(hardware, ranks)
    n = np.full_like(SIZES, ranks)
    for operation in GROUPS:
        seconds = group.seconds(operation, SIZES)
        assert (np.diff(seconds) >= -1e-15).all(), operation
        share = long_share(operation, n)
        if operation == ALL_REDUCE:
            share = np.minimum(share, in_switch_share(n))
        if group.hosts == 1:
            assert (SIZES * share / seconds <= group.link.bytes_per_s * (1 + 1e-9)).all(), operation


@given(st.sampled_from(HARDWARE), st.integers(2, 8), st.floats(16, 1e9), st.sampled_from(GROUPS))
def test_neighbouring_sizes_show_no_dip(hardware: str, ranks: int, size: float, operation: str) -> None:
    group = build_collectives(load_hardware(hardware), ranks)
    near, next_one, double = group.seconds(operation, np.array([size, size * 1.02, size * 2]))
    assert next_one >= near * 0.95
    assert double >= near


def test_one_rank_and_no_bytes_take_no_time() -> None:
    assert not build_collectives(load_hardware("h100-sxm"), 1).seconds(ALL_REDUCE, SIZES).any()
    group = build_collectives(load_hardware("h100-sxm"), 4)
    assert group.seconds(ALL_TO_ALL, np.zeros(2)).tolist() == [0.0, 0.0]
    assert group.ideal_s(ALL_REDUCE, np.array([450e9]))[0] == pytest.approx(2 * 3 / 4)


def test_groups_talk_over_the_widest_link_that_joins_them() -> None:
    assert shipped("h100-sxm", 8).link.kind == "NVLink4"
    assert shipped("l40s", 4).link.bytes_per_s == load_hardware("l40s").pcie_bytes_per_s
    beyond = shipped("h100-sxm", 16)
    assert (beyond.hosts, beyond.local, beyond.link.kind) == (2, 8, "network")
    # Seventy-two accelerators of a rack are one domain.
    assert shipped("gb200", 64).hosts == 1


def test_an_all_reduce_over_hosts_is_made_of_its_stages() -> None:
    group, inside = shipped("h100-sxm", 16), shipped("h100-sxm", 8)
    message = np.array([64e6])
    stages = inside.seconds(REDUCE_SCATTER, message) + inside.all_gather_s(message)
    across = group.seconds(ALL_REDUCE, message) - stages
    # Each of the eight places sums its part with its peer over its own network link.
    assert across[0] >= message[0] / 8 / 50e9
    assert group.seconds(ALL_REDUCE, message)[0] > 2 * inside.seconds(ALL_REDUCE, message)[0]


def test_sends_cost_a_latency_and_a_slope() -> None:
    near, far = shipped("h100-sxm", 4, stages=2), shipped("h100-sxm", 8, stages=2)
    assert 0 < near.send_latency_s() < 100e-6
    # The next stage is in another host: the network carries a share a rank.
    assert far.send_s_a_byte() >= 1 / 8 / 50e9
    assert near.send_s_a_byte() < far.send_s_a_byte()


def test_provenance_tells_measured_from_generic() -> None:
    assert shipped("h100-sxm", 8).provenance(ALL_REDUCE, MESSAGE)[0] == "calibrated"
    assert shipped("mi300x", 8).provenance(ALL_REDUCE, MESSAGE)[0] == "generic"
    assert "2 hosts" in shipped("h100-sxm", 16).provenance(ALL_REDUCE, MESSAGE)[1]


def test_latency_over_pcie_grows_with_the_ranks() -> None:
    latency = [
        build_collectives(load_hardware("l40s"), n).seconds(ALL_REDUCE, np.ones(1))[0] for n in (2, 4, 8)
    ]
    assert latency[2] - latency[1] == pytest.approx(2 * (latency[1] - latency[0]), rel=1e-3)
    assert latency[1] > latency[0] + 2e-6


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_form_takes_the_fastest_of_its_three_algorithms(operation: str) -> None:
    form = CollectiveForm(operation)
    constants = {parameter.name: parameter.start for parameter in form.parameters}
    device = describe_device(load_hardware("h100-sxm"), "bfloat16")
    shapes = {"bytes": SIZES, "ranks": np.full_like(SIZES, 4), "across": np.zeros_like(SIZES)}
    best = form.seconds(shapes, constants, device, warm=True)
    alone = []
    for name in ("short", "middle", "long"):
        slow = {f"{other}_s": 1.0 for other in ("short", "middle", "long") if other != name}
        alone.append(form.seconds(shapes, {**constants, **slow}, device, warm=True))
    assert best == pytest.approx(np.minimum.reduce(alone))
    assert [best[0], best[-1]] == pytest.approx([alone[0][0], alone[2][-1]])


def test_pairs_and_crowds_share_the_host_differently() -> None:
    form, device = CollectiveForm(ALL_REDUCE), describe_device(load_hardware("l40s"), "bfloat16")
    ranks = np.array([2.0, 4.0, 8.0])
    shapes = {"bytes": np.full(3, 1e9), "ranks": ranks, "across": np.zeros(3)}
    constants = {parameter.name: parameter.start for parameter in form.parameters}
    even = form.seconds(shapes, constants, device, warm=True)
    uneven = form.seconds(shapes, {**constants, "pair_speedup": 4.0, "crowding": 1.0}, device, warm=True)
    assert uneven / even == pytest.approx([0.25, 1.0, 2.0], rel=0.01)
