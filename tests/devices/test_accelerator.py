"""What the shipped hardware files say."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from simserve.cost.calibration_file import read_fits
from simserve.cost.kernel_calibration import KernelCalibration
from simserve.cost.kernels.gemm import gemm_shapes
from simserve.devices.accelerator import GB, GIB
from simserve.scenario.catalog import load_calibration, load_hardware
from simserve.scenario.known_names import hardware_names


@pytest.mark.parametrize("name", hardware_names())
def test_shipped_accelerator_is_sourced_and_sane(name: str) -> None:
    accelerator = load_hardware(name)
    assert accelerator.name == name
    assert accelerator.source != "user"
    assert accelerator.confidence != "user"
    assert 10e12 < accelerator.peak_for("bfloat16") < 3e15
    assert 100e9 < accelerator.memory_bandwidth_bytes_per_s < 10e12
    assert 14 * GIB < accelerator.memory_bytes < 300 * GIB
    # Denser formats are not slower.
    peaks = accelerator.peak_flops
    assert peaks.get("fp8", float("inf")) >= accelerator.peak_for("bfloat16")
    assert peaks.get("fp4", float("inf")) >= peaks.get("fp8", 0)


def test_every_accelerator_of_the_fact_table_is_shipped(data_dir: Path) -> None:
    with (data_dir / "kernels" / "hardware_facts.csv").open() as table:
        rows = list(csv.DictReader(table))
    # The GB300 is measured but not in the table; the A10G is AWS's variant of the A10.
    assert len(rows) == len(set(hardware_names()) - {"gb300", "a10g"})
    for row in rows:
        accelerator = load_hardware(row["name"])
        assert accelerator.peak_for("bfloat16") == float(row["fp16_bf16_tflops_dense"]) * 1e12
        # The RTX PRO 6000's two figures: 1597 in the table, 1792 as the cap.
        expected = 1792 if accelerator.name == "rtx-pro-6000-server" else float(row["mem_bw_gbs"])
        assert accelerator.memory_bandwidth_bytes_per_s == expected * GB
        if row["fp8_tflops_dense"]:
            assert accelerator.peak_flops["fp8"] == float(row["fp8_tflops_dense"]) * 1e12
        if row["tdp_w"]:
            assert accelerator.tdp_w == float(row["tdp_w"])


def test_spellings_of_the_measured_tables_resolve(data_dir: Path) -> None:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    unlisted = {"gb300"}  # measured, but not in the fact table
    tables = [
        "gemm",
        "attn_decode",
        "attn_mixed",
        "elementwise",
        "comm",
        "moe",
        "grouped_gemm",
        "step_splitwise",
    ]
    for table in tables:
        column = pq.read_table(data_dir / "kernels" / f"{table}.parquet", columns=["hardware"])["hardware"]
        for spelling in pc.unique(column).to_pylist():
            if spelling not in unlisted:
                assert load_hardware(spelling).name in hardware_names()


@pytest.mark.parametrize("name", hardware_names())
def test_calibrated_rates_stay_below_the_peaks(name: str) -> None:
    accelerator = load_hardware(name)
    content = load_calibration(accelerator)
    if content is None:
        return
    assert content["accelerator"] == name
    assert content["provenance"]
    for fit in read_fits(content, f"{name}.yaml"):
        shares = [
            value for key, value in fit.constants.items() if fit.family == "gemm" and "efficiency" in key
        ]
        assert all(0 < value <= 1 for value in shares)
        assert all(0 <= value < 1e-3 for key, value in fit.constants.items() if key == "overhead_s")
        assert fit.rows > 0


def test_h100_streams_and_multiplies_as_fast_as_measured() -> None:
    accelerator = load_hardware("H100")
    kernel = KernelCalibration(accelerator, load_calibration(accelerator)).kernel("gemm", "bfloat16")
    stream, multiply = kernel.seconds(
        gemm_shapes(np.array([1.0, 8192.0]), np.full(2, 16384.0), np.full(2, 16384.0), "bfloat16")
    )
    # The best of the measured kernels: 2,895 GB/s and 813 TFLOP/s of 3,350 and 989.4 (kernel study, form G2).
    assert 2 * 16384**2 / stream == pytest.approx(2895e9, rel=0.06)
    assert 2 * 8192 * 16384**2 / multiply == pytest.approx(813e12, rel=0.12)
