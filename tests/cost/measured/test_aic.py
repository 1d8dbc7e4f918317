"""aiconfigurator's tables: asked through its public interface, taken where measured, else passed over."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import numpy as np
import pytest

from simserve.cost.measured.aic import AicTables
from simserve.cost.measured.kernels import MeasuredCalibration
from simserve.errors import InputError, UnknownNameError
from simserve.scenario.catalog import load_hardware

installed = pytest.mark.skipif(
    find_spec("aiconfigurator_core") is None, reason="the extra aic is not installed"
)


def columns(**values: float) -> dict[str, np.ndarray]:
    return {name: np.array([value], dtype=np.float64) for name, value in values.items()}


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiconfigurator_core.sdk", None)
    monkeypatch.setitem(sys.modules, "aiconfigurator_core", None)
    with pytest.raises(InputError, match=r"pip install 'simserve\[aic\]'"):
        AicTables(load_hardware("h100-sxm"))


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'vllm'"):
        AicTables(load_hardware("h100-sxm"), "vlm")


@pytest.fixture(scope="module")
def h100() -> AicTables:
    return AicTables(load_hardware("h100-sxm"))


@installed
def test_a_gemm_takes_a_plausible_time(h100: AicTables) -> None:
    shapes = {name: np.full(3, value) for name, value in {"n": 6144.0, "k": 4096.0}.items()}
    seconds = h100.seconds("gemm", "bfloat16", "", ("",), {**shapes, "m": np.array([1.0, 1024.0, 8192.0])})
    floor = 2 * 8192 * 6144 * 4096 / 989.4e12
    assert (np.diff(seconds) > 0).all()
    assert floor < seconds[2] < 2 * floor


@installed
def test_what_it_has_not_measured_is_left_to_the_roofline(h100: AicTables) -> None:
    sizes = {"batch": 16, "kv_len": 4096, "heads": 28, "kv_heads": 7, "head_dim": 80, "window": 0}
    assert np.isnan(h100.seconds("decode_attention", "bfloat16", "bfloat16", ("",), columns(**sizes))).all()
    assert np.isnan(h100.seconds("gemm", "nvfp4", "", ("",), columns(m=16, n=4096, k=4096))).all()
    assert np.isnan(h100.seconds("gemm", "fp8", "", ("",), columns(tokens=16, width=4096))).all()
    huge = h100.seconds("communication", "bfloat16", "", ("all_reduce/",), columns(bytes=1e11, ranks=8))
    assert np.isnan(huge).all()
    assert np.isnan(h100.seconds("elementwise", "bfloat16", "", ("",), columns(tokens=16, bytes=1e6))).all()


@installed
def test_the_source_of_each_operator_is_told(h100: AicTables) -> None:
    calibration = MeasuredCalibration(load_hardware("h100-sxm"), [h100])
    kernel = calibration.kernel("decode_attention", "bfloat16", "bfloat16")
    sizes = {"batch": 16, "kv_len": 4096, "heads": 32, "kv_heads": 8, "head_dim": 128, "window": 0}
    tier, source, _ = kernel.provenance(columns(**sizes))
    assert tier == "measured"
    assert source.startswith("aiconfigurator-core ")
    assert source.endswith("on h100_sxm")
    assert kernel.provenance(columns(**{**sizes, "head_dim": 80}))[0] != "measured"


@installed
def test_an_accelerator_without_tables_is_refused() -> None:
    with pytest.raises(InputError, match="no vllm tables of m4-max"):
        AicTables(load_hardware("m4-max"))
    with pytest.raises(InputError, match="aiconfigurator-core: "):
        AicTables(load_hardware("h100-sxm"), "vllm", "0.1")
