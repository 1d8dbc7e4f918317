"""Calibration files, tiers and notes."""

from __future__ import annotations

import re

import pytest

from simserve.cost.calibration import GENERIC_GEMM, Calibration, read_calibration
from simserve.data_files import data_folder
from simserve.errors import InputError
from simserve.scenario.catalog import hardware_names, load_calibration, load_hardware

GEMM = {
    "form": "G2",
    "compute_efficiency": 0.8,
    "bandwidth_efficiency": 0.85,
    "overhead_s": 4e-6,
    "p": 2.5,
    "fit_mape_percent": 8.5,
}


def test_every_shipped_calibration_reads_and_is_physical() -> None:
    files = sorted((data_folder("hardware") / "calibration").glob("*.yaml"))
    assert len(files) >= 10
    for path in files:
        accelerator = load_hardware(path.stem)
        calibration = read_calibration(accelerator.name, load_calibration(accelerator), path.name)
        assert calibration.gemm
        for constants in calibration.gemm.values():
            assert 0 < constants.compute_efficiency <= 1
            assert 0 < constants.bandwidth_efficiency <= 1
            assert constants.p >= 1
            assert 0 <= constants.overhead_s < 1e-4


def test_measured_accelerators_are_calibrated_and_the_rest_say_generic() -> None:
    tiers = {}
    for name in hardware_names():
        accelerator = load_hardware(name)
        note = read_calibration(name, load_calibration(accelerator)).note("bfloat16")
        tiers[name] = note.tier
        assert note.error_percent
        assert name in note.source
    assert tiers["h100-sxm"] == tiers["a100-sxm-80gb"] == tiers["rtx-4090"] == "calibrated"
    assert tiers["mi300x"] == tiers["gaudi3"] == tiers["m4-max"] == "generic"


def test_constants_are_chosen_by_dtype() -> None:
    calibration = read_calibration("x", {"gemm": {"bfloat16": GEMM}})
    assert calibration.gemm_constants("float16").compute_efficiency == 0.8
    assert calibration.gemm_constants("fp8") is GENERIC_GEMM
    assert calibration.note("float16").summary()["error_percent"] == 8.5
    assert calibration.note("fp8").tier == "generic"
    assert Calibration("y").note("bfloat16").summary()["tier"] == "generic"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"gemm": {"bfloat16": {**GEMM, "form": "G7"}}}, "gemm.bfloat16.form: expected G2"),
        ({"gemm": {"bfloat16": {**GEMM, "p": "two"}}}, "gemm.bfloat16.p: expected a number"),
        ({"gemm": {"bfloat16": {**GEMM, "compute_efficiency": 0}}}, "expected a positive number"),
        ({"gemm": [1]}, "gemm: expected a mapping"),
        ({"attention_decode": {"bfloat16": {"form": "D9"}}}, "attention_decode.bfloat16.form"),
        ({"all_reduce": {2: {"p": 1.0}}}, "all_reduce.2.one_shot.latency_s"),
    ],
)
def test_broken_files_name_the_place(content: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        read_calibration("x", content, "x.yaml")
    assert str(caught.value).startswith("x.yaml: ")
