"""The shipped attention constants in serving: within the peaks, without dips, dearer at every doubling."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from simserve.cost.fitted_kernel import FittedKernel
from simserve.cost.kernel_calibration import KernelCalibration
from simserve.cost.kernels.decode_attention import decode_bound_s, decode_shapes
from simserve.cost.kernels.form import Array
from simserve.cost.kernels.mixed_attention import MixedAttentionForm, mixed_shapes
from simserve.cost.kernels.mla import mla_shapes
from simserve.cost.kernels.prefill_attention import PrefillAttentionForm, prefill_shapes
from simserve.data_files import data_folder
from simserve.scenario.catalog import load_calibration, load_generic_calibration, load_hardware

FILES = sorted(
    path.stem for path in (data_folder("hardware") / "calibration").glob("*.yaml") if path.stem != "generic"
)
LAYERS = ((32, 8, 128), (8, 1, 64), (16, 16, 128))
DIP = 0.05
ROUNDING = 1 - 1e-9
SIZES: tuple[Array, Array] = (np.arange(1, 200, dtype=np.float64), np.exp2(np.arange(15, dtype=np.float64)))


def filled(like: Array, value: float) -> Array:
    """As many times one value."""
    return np.full(len(like), value, dtype=np.float64)


@cache
def kernels(hardware: str, family: str) -> list[tuple[str, str, FittedKernel]]:
    """One kernel for each shipped fit of a family, each with its KV dtype and variant."""
    accelerator = load_hardware(hardware)
    book = KernelCalibration(accelerator, load_calibration(accelerator), load_generic_calibration())
    return [
        (fit.kv_dtype, fit.variant, book.kernel(family, fit.dtype, fit.kv_dtype, fit.variant, fit.framework))
        for fit in book.fits
        if fit.family == family
    ]


def check(kernel: FittedKernel, near: dict[str, Array], doubled: dict[str, Array]) -> None:
    seconds = kernel.seconds(near)
    assert (seconds[1:] >= (1 - DIP) * seconds[:-1]).all()
    seconds = kernel.seconds(doubled)
    assert (seconds[1:] >= ROUNDING * seconds[:-1]).all()


@pytest.mark.parametrize("hardware", FILES)
def test_decode(hardware: str) -> None:
    for kv_dtype, variant, kernel in kernels(hardware, "decode_attention"):
        window = 128 if "window" in variant or "unpacked" in variant else 0
        for layer in LAYERS:
            for other in (3.0, 1000.0):
                near, doubled = (
                    decode_shapes(sizes, filled(sizes, other), *layer, window, kv_dtype) for sizes in SIZES
                )
                check(kernel, near, doubled)
                near, doubled = (
                    decode_shapes(filled(sizes, other), sizes, *layer, window, kv_dtype) for sizes in SIZES
                )
                check(kernel, near, doubled)
                assert (kernel.seconds(doubled) >= ROUNDING * decode_bound_s(doubled, kernel.device)).all()


@pytest.mark.parametrize("hardware", FILES)
def test_prefill(hardware: str) -> None:
    form = PrefillAttentionForm()
    for kv_dtype, variant, kernel in kernels(hardware, "prefill_attention"):
        window = 128 if "window" in variant else 0
        for layer in LAYERS:
            for history in (0.0, 5000.0):
                near, doubled = (
                    prefill_shapes(
                        filled(sizes, 1.0), sizes, filled(sizes, history), *layer, window, kv_dtype
                    )
                    for sizes in SIZES
                )
                check(kernel, near, doubled)
                bound = form.bound_seconds(doubled, kernel.device)
                assert (kernel.seconds(doubled) >= ROUNDING * bound).all()


@pytest.mark.parametrize("hardware", ["rtx-pro-6000-server", "rtx-4090"])
def test_mixed(hardware: str) -> None:
    form = MixedAttentionForm()
    found = [
        kernel for _, variant, kernel in kernels(hardware, "mixed_attention") if "decodes" not in variant
    ]
    for kernel in found:
        for layer in LAYERS:
            near, doubled = (
                mixed_shapes(filled(sizes, 64.0), filled(sizes, 0.0), sizes, filled(sizes, 900.0), *layer)
                for sizes in SIZES
            )
            check(kernel, near, doubled)
            assert (kernel.seconds(doubled) >= ROUNDING * form.bound_seconds(doubled, kernel.device)).all()


@pytest.mark.parametrize("hardware", FILES)
def test_latent(hardware: str) -> None:
    for kv_dtype, variant, kernel in kernels(hardware, "mla"):
        for heads in (16, 128):
            for first in (1.0, 64.0):
                near, doubled = (
                    mla_shapes(filled(sizes, first), filled(sizes, 1.0), sizes, heads, kv_dtype)
                    if variant.endswith("decode")
                    else mla_shapes(filled(sizes, first), sizes, filled(sizes, 0.0), heads, kv_dtype)
                    for sizes in SIZES
                )
                check(kernel, near, doubled)


def test_mixed_fits_are_shipped() -> None:
    assert Path(data_folder("hardware") / "calibration" / "rtx-pro-6000-server.yaml").is_file()
    assert kernels("rtx-pro-6000-server", "mixed_attention")
    assert kernels("h100-sxm", "decode_attention")
    assert kernels("h100-sxm", "prefill_attention")
    assert kernels("h100-sxm", "mla")
