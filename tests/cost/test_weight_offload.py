"""Weights in host memory: kernels that read them take as long as PCIe, others stay as they are."""

from __future__ import annotations

import pytest

from simserve.cost.build import CostSpec, build_timers
from simserve.cost.roofline import RooflineTimer
from simserve.cost.timer import Chunk
from simserve.devices.accelerator import GIB
from simserve.model.stage import split_stages, stage_weight_bytes
from simserve.scenario.catalog import load_hardware, load_model

H100 = load_hardware("h100-sxm")
PCIE = H100.pcie_bytes_per_s


def build(
    model: str = "llama-3.1-8b", gib: float = 0.0, stages: int = 1, ranks: int = 1
) -> list[RooflineTimer]:
    timers = build_timers(
        CostSpec(), load_model(model), H100, tensor_parallel_size=ranks, pipeline_parallel_size=stages,
        cpu_offload_bytes=gib * GIB,
    )  # fmt: skip
    assert all(isinstance(timer, RooflineTimer) for timer in timers)
    return timers  # type: ignore[return-value]


def test_a_decode_step_takes_the_way_of_its_weights_over_pcie() -> None:
    (without,), (offloaded,) = build(), build(gib=4)
    reads_ns = 4 * GIB / PCIE * 1e9
    # All of the layers' weights are those of GEMMs, but for the norms'.
    assert offloaded.weight_reads_ns(1) == pytest.approx(reads_ns, rel=1e-3)
    assert without.weight_reads_ns(1) == 0
    for decodes in (1, 64):
        shape = (decodes, 500 * decodes, 0)
        rest_ns = without.decode_ns(*shape, 1)[0]
        took_ns = offloaded.decode_ns(*shape, 1)[0]
        # What lies on the GPU is read at its own rate, in turn with what does not.
        assert reads_ns < took_ns < reads_ns + rest_ns
        assert offloaded.batch_ns(*shape, [], decodes) == took_ns


def test_a_long_prefill_hides_the_way() -> None:
    (without,), (offloaded,) = build(), build(gib=1)
    for tokens, least, most in ((128, 2.0, 9.0), (16_384, 1.0, 1.001)):
        step = (0, 0, 0, [Chunk(tokens, 0)], 1)
        assert least <= offloaded.batch_ns(*step) / without.batch_ns(*step) <= most


@pytest.mark.parametrize(("stages", "ranks"), [(1, 1), (2, 1), (1, 4)])
def test_no_more_than_the_layers_can_lie_there(stages: int, ranks: int) -> None:
    shape = load_model("llama-3.1-8b")
    for stage, timer in zip(
        split_stages(shape.num_layers, stages), build(gib=500, stages=stages, ranks=ranks), strict=True
    ):
        layers = stage_weight_bytes(shape, stage, tensor_parallel_size=ranks, layers_only=True)
        assert timer.weight_reads_ns(8) == pytest.approx(layers / PCIE * 1e9, rel=1e-3)
    assert build(gib=500)[0].weight_reads_ns(8) == build(gib=13.1)[0].weight_reads_ns(8)


def test_only_the_experts_that_a_batch_touches_are_read() -> None:
    (timer,) = build("qwen3-30b-a3b", gib=30)
    one, many, all_of_them = (timer.weight_reads_ns(tokens) for tokens in (1, 64, 4096))
    assert one < 0.2 * all_of_them
    assert one < many < all_of_them == pytest.approx(30 * GIB / PCIE * 1e9, rel=0.02)


def test_the_step_says_what_it_waits_for() -> None:
    (timer,) = build(gib=8)
    rows = {row.operator: row for row in timer.explain(8, 8000, 0, [], 8)}
    assert rows["qkv"].bound == "communication"
    assert rows["lm_head"].bound == "bandwidth"
    total_s = sum(row.seconds for row in rows.values())
    assert total_s == pytest.approx(timer.decode_ns(8, 8000, 0, 1)[0] / 1e9, rel=1e-6)
    assert timer.bound_seconds(8, 8000, 0, [], 8)["communication"] > 0.9 * total_s
