"""Formats of weights and of the KV cache: their size on the page, and what runs in them."""

from __future__ import annotations

import pytest

from simserve.errors import UnknownNameError
from simserve.model.dtype import QUANTIZATION_NAMES, WEIGHT_FORMATS, weight_format
from simserve.model.kv_format import KV_FORMATS, kv_format
from simserve.model.precision import resolve_precision
from simserve.scenario.catalog import load_model


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("fp8", 8.0),
        ("int8", 8.0),
        ("int8_wo", 8.0),
        # 16-bit scale and 4-bit zero point a group of 128.
        ("awq", 4 + 20 / 128),
        ("gptq", 4 + 20 / 128),
        ("mxfp4", 4 + 8 / 32),
        ("nvfp4", 4 + 8 / 16),
        ("fp8_block", 8 + 32 / 128**2),
    ],
)
def test_bits_of_a_weight(name: str, bits: float) -> None:
    assert weight_format(name).weight_bytes * 8 == pytest.approx(bits)


def test_every_spelling_is_a_format_with_an_accuracy_note() -> None:
    for name in QUANTIZATION_NAMES:
        fmt = weight_format(name.upper())
        assert fmt is WEIGHT_FORMATS[fmt.name]
        assert any(source in fmt.accuracy for source in ("arXiv", "NVIDIA", "model card"))
    assert all(fmt.accuracy for fmt in KV_FORMATS.values())
    with pytest.raises(UnknownNameError, match="nvfp4"):
        weight_format("nvfp5")
    with pytest.raises(UnknownNameError, match="int8"):
        kv_format("int5")


@pytest.mark.parametrize(
    ("name", "bytes_of_128"),
    [
        ("bfloat16", 256),
        ("fp8_e5m2", 128),
        ("int8_per_token_head", 128 + 4),
        ("int4", 64 + 2 * 4),
        ("int2", 32 + 4 * 4),
    ],
)
def test_bytes_of_a_key_with_its_scales(name: str, bytes_of_128: float) -> None:
    assert kv_format(name).vector_bytes(128) == bytes_of_128
    # Llama-3.1-8B: 8 KV heads, key and value.
    assert load_model("llama-3.1-8b").kv_bytes_per_token_layer(name) == 16 * bytes_of_128


def test_compute_paths() -> None:
    shape = load_model("llama-3.1-8b")
    hopper, ampere = frozenset({"bfloat16", "fp8", "int8"}), frozenset({"bfloat16", "int8"})
    native = resolve_precision(shape, quantization="fp8", kv_cache_dtype="fp8", native_dtypes=hopper)
    assert (native.compute, native.gemm_dtype, native.attention_dtype) == ("fp8", "fp8", "fp8")
    assert native.quantizes_activations
    widened = resolve_precision(shape, quantization="fp8", kv_cache_dtype="fp8", native_dtypes=ampere)
    # Marlin reads 8 bits and multiplies 16; attention widens the keys.
    assert (widened.compute, widened.gemm_dtype) == ("bfloat16", "int8_wo")
    assert (widened.attention_dtype, widened.quantizes_activations) == ("bfloat16", False)
    for name in ("int8", "int4", "int2"):
        assert (
            resolve_precision(shape, kv_cache_dtype=name, native_dtypes=hopper).attention_dtype == "bfloat16"
        )
    w8a8 = resolve_precision(shape, quantization="int8", native_dtypes=ampere)
    assert (w8a8.compute, w8a8.gemm_dtype, w8a8.quantized_activation_bytes) == ("int8", "sq", 1.0)
    weight_only = resolve_precision(shape, quantization="awq", native_dtypes=hopper)
    assert (weight_only.compute, weight_only.gemm_dtype) == ("bfloat16", "int4_wo")
    assert resolve_precision(shape).gemm_dtype == "bfloat16"
