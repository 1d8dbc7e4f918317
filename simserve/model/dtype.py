"""Number formats: bytes an element, and the formats of weights and of the KV cache by vLLM's names."""

from __future__ import annotations

from dataclasses import dataclass

from simserve.errors import UnknownNameError

# Bytes an element of activations, unquantized weights and KV entries.
DTYPE_BYTES: dict[str, float] = {
    "float32": 4.0,
    "bfloat16": 2.0,
    "float16": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "fp4": 0.5,
    "int4": 0.5,
}
_DTYPE_ALIASES = {
    "float": "float32",
    "fp32": "float32",
    "bf16": "bfloat16",
    "half": "float16",
    "fp16": "float16",
    "fp8_e4m3": "fp8",
    "fp8_e5m2": "fp8",
    "float8_e4m3fn": "fp8",
    "float8_e5m2": "fp8",
}


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """How quantized weights are stored and multiplied.

    Attributes:
        name: vLLM's name for the method, or the closest to it.
        weight_bytes: Bytes a weight, scales and zero points included.
        compute_dtype: The dtype whose peak rate its GEMMs run at.
        experts_only: True where only the experts' weights are quantized.
    """

    name: str
    weight_bytes: float
    compute_dtype: str
    experts_only: bool = False


# int4 with groups of 128: 4 bits + a 16-bit scale and a 4-bit zero point a group (AWQ, arXiv:2306.00978;
# GPTQ, arXiv:2210.17323). Block FP8: one FP32 scale a 128 x 128 tile (DeepSeek-V3, arXiv:2412.19437,
# section 3.3). MXFP4: an 8-bit scale a 32 elements (OCP Microscaling Formats v1.0). NVFP4: an 8-bit
# scale a 16 elements. Weight-only formats multiply in the activations' dtype.
WEIGHT_FORMATS: dict[str, WeightFormat] = {
    "fp8": WeightFormat("fp8", 1.0, "fp8"),
    "fp8_block": WeightFormat("fp8_block", 1.0 + 4.0 / (128 * 128), "fp8"),
    "int8": WeightFormat("int8", 1.0, "int8"),
    "awq": WeightFormat("awq", 0.5 + (2.0 + 0.5) / 128, "activation"),
    "gptq": WeightFormat("gptq", 0.5 + (2.0 + 0.5) / 128, "activation"),
    "mxfp4": WeightFormat("mxfp4", 0.5 + 1.0 / 32, "activation", experts_only=True),
    "nvfp4": WeightFormat("nvfp4", 0.5 + 1.0 / 16, "fp4"),
}
# vLLM's names for kernels that multiply the same formats.
_FORMAT_ALIASES = {"gptq_marlin": "gptq", "awq_marlin": "awq", "modelopt_fp4": "nvfp4"}


def normalise_dtype(name: str) -> str:
    """Return the canonical name of a dtype ("half" -> "float16").

    Raises:
        UnknownNameError: If there is no such dtype.
    """
    key = name.lower().removeprefix("torch.")
    key = _DTYPE_ALIASES.get(key, key)
    if key not in DTYPE_BYTES:
        raise UnknownNameError("dtype", name, [*DTYPE_BYTES, *_DTYPE_ALIASES])
    return key


def dtype_bytes(name: str) -> float:
    """Return the bytes of one element of `name`."""
    return DTYPE_BYTES[normalise_dtype(name)]


def weight_format(name: str) -> WeightFormat:
    """Return the storage of quantized weights by its name.

    Raises:
        UnknownNameError: If there is no such method.
    """
    key = _FORMAT_ALIASES.get(name.lower(), name.lower())
    if key not in WEIGHT_FORMATS:
        raise UnknownNameError("quantization", name, WEIGHT_FORMATS)
    return WEIGHT_FORMATS[key]
