"""Number formats: bytes an element, and the formats of quantized weights by vLLM's names."""

from __future__ import annotations

from dataclasses import dataclass

from simserve.errors import UnknownNameError

# Bytes an element of activations and unquantized weights.
DTYPE_BYTES: dict[str, float] = {
    "float32": 4.0,
    "bfloat16": 2.0,
    "float16": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "fp4": 0.5,
    "int4": 0.5,
    "int2": 0.25,
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
        compute_dtype: The dtype whose peak rate its GEMMs run at; "activation" where the weights are widened
            in the kernel (weight-only).
        gemm_dtype: What tables of measured kernels call its GEMMs.
        accuracy: What it costs in accuracy, with the source.
        activation_bytes: Bytes an activation that its GEMMs read; 0: as the model's activations.
        experts_only: True where only the experts' weights are quantized.
        with_fp4_units: Of a weight-only format, where the accelerator has FP4 units: the dtype whose rate its
            GEMMs run at, what tables call them, and bytes an activation.
    """

    name: str
    weight_bytes: float
    compute_dtype: str
    gemm_dtype: str
    accuracy: str
    activation_bytes: float = 0.0
    experts_only: bool = False
    with_fp4_units: tuple[str, str, float] | None = None

    @property
    def is_weight_only(self) -> bool:
        """Whether activations stay in 16 bits."""
        return self.compute_dtype == "activation"


_W4_ACCURACY = (
    "perplexity of Llama-2-7B 5.47 -> 5.60 (AWQ, arXiv:2306.00978, table 4); rivals 8-bit formats "
    "(arXiv:2411.02355)"
)
_FP8_ACCURACY = "no measurable loss at any size (arXiv:2411.02355)"
# One scale a group of 128: 16 bits and a 4-bit zero point (AWQ; GPTQ, arXiv:2210.17323). Block FP8: one FP32
# scale a 128 x 128 tile (DeepSeek-V3, arXiv:2412.19437, section 3.3). MXFP4: an 8-bit scale a 32 elements
# (OCP Microscaling Formats v1.0). NVFP4: an 8-bit scale a 16 elements (NVIDIA, "Introducing NVFP4"). A scale
# a tensor or an output channel (fp8, int8, int8_wo) is below 0.1 % of the weights and counts as nothing.
WEIGHT_FORMATS: dict[str, WeightFormat] = {
    "fp8": WeightFormat("fp8", 1.0, "fp8", "fp8", _FP8_ACCURACY, 1.0),
    "fp8_block": WeightFormat(
        "fp8_block", 1.0 + 4.0 / (128 * 128), "fp8", "fp8_block",
        "the format DeepSeek-V3 was trained in: training loss within 0.25 % of BF16 (arXiv:2412.19437, 3.3)",
        1.0 + 4.0 / 128,
    ),
    "int8": WeightFormat(
        "int8", 1.0, "int8", "sq", "1 to 3 % lower on single tasks when tuned (W8A8, arXiv:2411.02355)", 1.0
    ),
    "int8_wo": WeightFormat(
        "int8_wo", 1.0, "activation", "int8_wo", "no measurable loss (LLM.int8, arXiv:2208.07339, table 1)"
    ),
    "awq": WeightFormat("awq", 0.5 + (2.0 + 0.5) / 128, "activation", "int4_wo", _W4_ACCURACY),
    "gptq": WeightFormat("gptq", 0.5 + (2.0 + 0.5) / 128, "activation", "int4_wo", _W4_ACCURACY),
    # Kimi-K2's own: a 16-bit scale for 32 weights, and only the routed experts (its config's `ignore`).
    "int4_experts": WeightFormat(
        "int4_experts", 0.5 + 2.0 / 32, "activation", "int4_wo",
        "the format Kimi-K2-Thinking was trained for; its published scores are in it (its model card)",
        experts_only=True,
    ),
    "mxfp4": WeightFormat(
        "mxfp4", 0.5 + 1.0 / 32, "activation", "mxfp4",
        "the format gpt-oss was trained for; its published scores are in it (arXiv:2508.10925)",
        experts_only=True,
        # Blackwell multiplies MXFP4 weights with MXFP8 activations.
        with_fp4_units=("fp8", "w4a8_mxfp4_mxfp8", 1.0 + 1.0 / 32),
    ),
    "nvfp4": WeightFormat(
        "nvfp4", 0.5 + 1.0 / 16, "fp4", "nvfp4",
        "DeepSeek-R1-0528 within 1 % of FP8 on seven tasks (NVIDIA, 'Introducing NVFP4')",
        0.5 + 1.0 / 16,
    ),
}  # fmt: skip
# vLLM's names for kernels that multiply the same formats, and names of the same format elsewhere.
_FORMAT_ALIASES = {
    "gptq_marlin": "gptq",
    "awq_marlin": "awq",
    "modelopt": "fp8",
    "fbgemm_fp8": "fp8",
    "ptpc_fp8": "fp8",
    "modelopt_fp4": "nvfp4",
    "experts_int8": "int8_wo",
    "w8a8": "int8",
    "w8a16": "int8_wo",
    "w4a16": "gptq",
}
QUANTIZATION_NAMES = (*WEIGHT_FORMATS, *_FORMAT_ALIASES)


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
        raise UnknownNameError("quantization", name, QUANTIZATION_NAMES)
    return WEIGHT_FORMATS[key]
