"""Predicted against measured kernels and steps: the errors that docs/background/step-time.md states."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import mean, median

import numpy as np
import pandas as pd
import pytest

from simserve.cost.build import ExplainableTimer
from simserve.cost.calibration import read_calibration
from simserve.cost.kernels.roofline import build_kernel
from simserve.cost.timer import Chunk
from simserve.scenario.catalog import load_calibration, load_hardware

BuildTimers = Callable[..., list[ExplainableTimer]]


@pytest.mark.parametrize(
    ("hardware", "table_name", "bound_percent"),
    [("h100-sxm", "h100_sxm", 11.5), ("a100-sxm-80gb", "a100_sxm", 12.5), ("b200-sxm", "b200_sxm", 16.5)],
)
def test_gemm_time(data_dir: Path, hardware: str, table_name: str, bound_percent: float) -> None:
    rows = pd.read_parquet(
        data_dir / "kernels" / "gemm.parquet",
        columns=["M", "N", "K", "time_us"],
        filters=[("hardware", "==", table_name), ("framework", "==", "vllm"), ("dtype", "==", "bfloat16")],
    ).astype(float)
    assert len(rows) > 3000
    accelerator = load_hardware(hardware)
    constants = read_calibration(hardware, load_calibration(accelerator)).gemm_constants("bfloat16")
    kernel = build_kernel(
        constants, accelerator.peak_for("bfloat16"), accelerator.memory_bandwidth_bytes_per_s
    )
    m, n, k = (rows[key].to_numpy() for key in ("M", "N", "K"))
    predicted_s = kernel.seconds(2 * m * n * k, 2 * (m * k + n * k + m * n))
    error = np.abs(predicted_s * 1e6 / rows["time_us"].to_numpy() - 1)
    assert 100 * error.mean() < bound_percent


def predicted_tpot_ms(timer: ExplainableTimer, batch: int, prompt: int, output: int) -> float:
    """A decode step at the mean context, and each request's share of the others' prefills."""
    context = batch * (prompt + output // 2)
    decode_ns = timer.decode_ns(batch, context, 0, 1)[0]
    prefill_ns = timer.batch_ns(0, 0, 0, [Chunk(prompt, 0)], 1)
    return (decode_ns + batch / output * prefill_ns) / 1e6


@pytest.mark.parametrize(
    ("hardware", "table_name", "bound_percent"), [("h100-sxm", "h100_sxm", 8), ("h200-sxm", "h200_sxm", 8)]
)
def test_tpot_of_llama_70b(
    stage_timers: BuildTimers, data_dir: Path, hardware: str, table_name: str, bound_percent: float
) -> None:
    rows = pd.read_parquet(data_dir / "kernels" / "e2e_aic_silicon.parquet")
    chosen = rows[
        (rows.system == table_name)
        & (rows.model_path == "meta-llama/Llama-3.1-70B")
        & (rows.backend == "vllm")
        & (rows.precision == "fp8")
        & (rows["mode"] == "agg")
    ]
    errors = []
    columns = ("tp_size", "batch_size", "isl", "osl", "silicon_tpot_ms")
    for tp, batch, prompt, output, measured_ms in zip(
        *(chosen[key].tolist() for key in columns), strict=True
    ):
        timer = stage_timers("llama-3.1-70b", hardware, tp=int(tp), quantization="fp8")[0]
        predicted_ms = predicted_tpot_ms(timer, int(batch), prompt, output)
        errors.append(100 * abs(predicted_ms / measured_ms - 1))
    assert len(errors) >= 15
    assert median(errors) < bound_percent
    assert mean(errors) < 12
