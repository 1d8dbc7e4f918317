"""No kernel beats the hardware, and more work never takes less time, on every shipped accelerator."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from simserve.cost.build import ExplainableTimer
from simserve.cost.timer import Chunk
from simserve.data_files import data_folder
from simserve.model.dtype import weight_format
from simserve.scenario.catalog import load_hardware
from simserve.scenario.known_names import hardware_names

# Dense GQA, experts, latent attention, windows, and a model of learned positions without a gated MLP.
MODELS = ("llama-3.1-8b", "qwen3-30b-a3b", "deepseek-v2-lite", "gemma-3-12b", "opt-6.7b")
SIZES = (1, 2, 7, 63, 64, 255, 256, 1000, 8191)
# A measured step is no physical one where benchmarks read a warm cache; float rounding aside, ours are.
ROUNDING = 1 + 1e-9

# What no file calibrates is priced by the generic constants: there only the peaks differ.
PAIRS = [
    pytest.param(
        model,
        hardware,
        marks=()
        if model in MODELS[:2] or (data_folder("hardware") / "calibration" / f"{hardware}.yaml").is_file()
        else pytest.mark.slow,
    )
    for model in MODELS
    for hardware in hardware_names()
]

BuildTimers = Callable[..., list[ExplainableTimer]]


def step_ns(timer: ExplainableTimer, decodes: int, context: int, chunks: list[Chunk]) -> int:
    window = min(context, 1024)
    samples = decodes + len(chunks)
    return timer.batch_ns(decodes, decodes * context, decodes * window, chunks, samples)


@pytest.mark.parametrize(("model", "hardware"), PAIRS)
def test_no_kernel_is_above_the_peaks(stage_timers: BuildTimers, model: str, hardware: str) -> None:
    accelerator = load_hardware(hardware)
    peak = accelerator.peak_for("bfloat16") * ROUNDING
    bandwidth = accelerator.memory_bandwidth_bytes_per_s * ROUNDING
    it = stage_timers(model, hardware)[0]
    for size in SIZES:
        shapes = [(size, size * 2000, size * 1000, [], size), (0, 0, 0, [Chunk(size, 0)], 1)]
        shapes.append((4, 4000, 2000, [Chunk(size, 5000), Chunk(17, 3)], 6))
        for shape in shapes:
            for row in it.explain(*shape):
                if row.bound == "communication":
                    continue
                assert row.flops <= row.seconds * peak, row
                assert row.moved_bytes <= row.seconds * bandwidth, row


@pytest.mark.parametrize(("model", "hardware"), PAIRS)
def test_one_more_request_or_token_never_makes_a_step_faster(
    stage_timers: BuildTimers, model: str, hardware: str
) -> None:
    it = stage_timers(model, hardware)[0]
    for size in SIZES:
        for context in (1, 500, 4000):
            assert step_ns(it, size + 1, context, []) >= step_ns(it, size, context, [])
        for history in (0, 100, 3000):
            here = step_ns(it, 3, 900, [Chunk(size, history)])
            assert step_ns(it, 3, 900, [Chunk(size + 1, history)]) >= here
            assert step_ns(it, 3, 900, [Chunk(size, history + 1)]) >= here


@pytest.mark.parametrize("hardware", hardware_names())
def test_doubling_work_never_makes_a_step_faster(stage_timers: BuildTimers, hardware: str) -> None:
    for model in MODELS:
        it = stage_timers(model, hardware)[0]
        decode = [step_ns(it, 2**i, 1000, []) for i in range(14)]
        prefill = [step_ns(it, 0, 0, [Chunk(2**i, 0)]) for i in range(15)]
        context = [step_ns(it, 8, 2**i, []) for i in range(18)]
        for series in (decode, prefill, context):
            assert series == sorted(series)
            assert series[-1] > series[0]


@pytest.mark.parametrize("tp", [2, 4, 8])
@pytest.mark.parametrize("hardware", ["h100-sxm", "a100-sxm-80gb", "rtx-pro-6000-server", "l40s", "mi300x"])
def test_sharded_steps_grow_with_their_work_too(stage_timers: BuildTimers, hardware: str, tp: int) -> None:
    it = stage_timers("llama-3.1-70b", hardware, tp=tp)[0]
    steps = [step_ns(it, n, 1000, []) for n in range(1, 600)]
    assert steps == sorted(steps)
    chunks = [step_ns(it, 0, 0, [Chunk(n, 0)]) for n in range(1, 8193, 7)]
    assert chunks == sorted(chunks)


def test_every_calibrated_form_keeps_below_the_peak_of_its_own_dtype(stage_timers: BuildTimers) -> None:
    for hardware in hardware_names():
        accelerator = load_hardware(hardware)
        for quantization in ("fp8", "awq"):
            it = stage_timers("llama-3.1-8b", hardware, quantization=quantization)[0]
            fastest = accelerator.peak_for(weight_format(quantization).compute_dtype) * ROUNDING
            for row in it.explain(0, 0, 0, [Chunk(8192, 0)], 1):
                assert row.flops <= row.seconds * fastest, (hardware, quantization, row)


def test_operators_are_listed_at_all(stage_timers: BuildTimers) -> None:
    it = stage_timers("llama-3.1-8b", "h100-sxm")[0]
    names = {row.operator for row in it.explain(2, 20, 0, [Chunk(5, 0)], 3)}
    assert {"qkv", "attention_output", "mlp_up", "mlp_down", "lm_head", "norm", "sampling"} <= names
    assert {"attention_decode", "attention_prefill"} <= names
