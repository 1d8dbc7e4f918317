"""Which fit prices a kernel family: the nearest that was measured, else the generic constants, labelled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simserve.cost.kernel_calibration import KernelCalibration
from simserve.cost.kernels.gemm import SERVING_VARIANTS, GemmForm, gemm_shapes
from simserve.data_files import data_folder
from simserve.errors import InputError, UnknownNameError
from simserve.scenario.catalog import load_calibration, load_generic_calibration, load_hardware
from simserve.scenario.known_names import hardware_names

CONSTANTS = {parameter.name: parameter.start for parameter in GemmForm.parameters}
SIZES = gemm_shapes(*np.full((3, 1), 4096.0), "bfloat16")


def entry(framework: str, dtype: str, variant: str = "", **constants: float) -> dict[str, Any]:
    return {
        "family": "gemm", "framework": framework, "dtype": dtype, "kv_dtype": "", "variant": variant,
        "form": "G5", "constants": {**CONSTANTS, **constants}, "rows": 100, "shapes": "a",
        "error": {"mape": 5.0},
    }  # fmt: skip


def book(*entries: dict[str, Any], generic: dict[str, Any] | None = None) -> KernelCalibration:
    content = {"fits": list(entries), "shape_lists": {"a": "4096x4096 8x8"}}
    return KernelCalibration(load_hardware("h100-sxm"), content, generic, "mine.yaml")


def test_frameworks_are_preferred_as_asked_then_vllm() -> None:
    fits = [entry("trtllm", "bfloat16", overhead_s=1e-6), entry("vllm", "bfloat16", overhead_s=2e-6)]
    assert book(*fits).kernel("gemm", "bfloat16").constants["overhead_s"] == 2e-6
    asked = book(*fits).kernel("gemm", "bfloat16", framework="trtllm")
    assert (asked.constants["overhead_s"], asked.tier, asked.error_percent) == (1e-6, "calibrated", 5.0)
    other = book(*fits).kernel("gemm", "bfloat16", framework="sglang")
    assert (other.constants["overhead_s"], other.tier) == (2e-6, "stand-in")


def test_a_dtype_alike_stands_in() -> None:
    kernel = book(entry("vllm", "fp8")).kernel("gemm", "fp8_block")
    assert kernel.tier == "stand-in"
    assert "fp8" in kernel.source


def test_serving_takes_its_engines_16_bit_fit_of_either_dtype() -> None:
    fits = book(entry("vllm", "bfloat16"), entry("sarathi", "float16", overhead_s=9e-6))
    assert fits.kernel("gemm", "float16").constants["overhead_s"] == CONSTANTS["overhead_s"]
    assert fits.kernel("gemm", "float16").tier == "calibrated"
    checked = fits.kernel("gemm", "float16", framework="sarathi")
    assert (checked.constants["overhead_s"], checked.tier) == (9e-6, "calibrated")


def test_variants_are_taken_in_order() -> None:
    layers = entry("vllm", "bfloat16", "layers", overhead_s=7e-6)
    assert book(layers).kernel("gemm", "bfloat16").tier == "generic"
    kernel = book(layers).kernel("gemm", "bfloat16", variant=SERVING_VARIANTS)
    assert (kernel.tier, kernel.constants["overhead_s"]) == ("calibrated", 7e-6)


def test_without_a_fit_the_generic_constants_price() -> None:
    bare = KernelCalibration(load_hardware("mi300x")).kernel("gemm", "bfloat16")
    assert (bare.tier, bare.error_percent) == ("generic", None)
    stated = {"fits": [{**entry("", "bfloat16"), "error": {"mape": 21.0}}]}
    kernel = KernelCalibration(load_hardware("mi300x"), None, stated).kernel("gemm", "int4_wo")
    assert (kernel.tier, kernel.error_percent) == ("generic", 21.0)
    assert kernel.provenance(SIZES) == ("generic", kernel.source, 21.0)
    assert kernel.seconds(SIZES)[0] > 2 * 4096**3 / 1307.4e12


def test_every_shipped_file_loads_and_prices() -> None:
    stems = {path.stem for path in (data_folder("hardware") / "calibration").glob("*.yaml")}
    assert len(stems) >= 12
    assert stems - {"generic"} <= set(hardware_names())
    generic = load_generic_calibration()
    for name in hardware_names():
        accelerator = load_hardware(name)
        calibration = KernelCalibration(accelerator, load_calibration(accelerator), generic)
        kernel = calibration.kernel("gemm", "bfloat16", variant=SERVING_VARIANTS)
        assert kernel.error_percent
        assert name in kernel.source
        assert kernel.seconds(SIZES)[0] >= GemmForm().bound_seconds(SIZES, kernel.device)[0]


def test_a_calibration_file_stays_below_a_megabyte() -> None:
    for path in (data_folder("hardware") / "calibration").glob("*.yaml"):
        assert path.stat().st_size < 1_000_000, path.name


def test_wrong_entries_are_told() -> None:
    stale = entry("vllm", "bfloat16")
    del stale["constants"]["p"]
    with pytest.raises(InputError, match=r"mine\.yaml: the gemm fit .* lacks the constant 'p' of form G5"):
        book(stale).kernel("gemm", "bfloat16")
    with pytest.raises(InputError, match=r"fits\.0\.constants\.p: expected a number, got 'x'"):
        book({**entry("vllm", "bfloat16"), "constants": {"p": "x"}})
    with pytest.raises(InputError, match="fits: expected a list"):
        KernelCalibration(load_hardware("h100-sxm"), {"fits": 3})
    with pytest.raises(UnknownNameError, match="kernel family 'gem'"):
        book().kernel("gem", "bfloat16")
