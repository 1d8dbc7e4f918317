"""Resolves the dtypes of a run: activations, KV cache, weights, and what the GEMMs compute in."""

from __future__ import annotations

from dataclasses import dataclass, replace

from simserve.model.dtype import WeightFormat, dtype_bytes, normalise_dtype, weight_format
from simserve.model.kv_format import KVFormat, kv_format
from simserve.model.shape import ModelShape


@dataclass(frozen=True, slots=True)
class Precision:
    """Dtypes of a run.

    Attributes:
        activation: Dtype of activations and of unquantized weights.
        kv_cache: Dtype of the KV cache.
        weights: Format of the quantized weights; None: unquantized.
        compute: Dtype in which quantized GEMMs run on the accelerator.
        attention: Dtype in which attention computes.
    """

    activation: str
    kv_cache: str
    weights: WeightFormat | None
    compute: str
    attention: str = ""

    @property
    def kv(self) -> KVFormat:
        """Format of the KV cache."""
        return kv_format(self.kv_cache)

    @property
    def attention_dtype(self) -> str:
        """Dtype in which attention computes."""
        return self.attention or self.activation

    @property
    def gemm_dtype(self) -> str:
        """What tables of measured kernels call the quantized GEMMs; the activations' dtype without them.

        A format that the accelerator cannot multiply is read in its own size and multiplied as activations:
        the weight-only kernels of that size (Marlin) stand for it.
        """
        if self.weights is None:
            return self.activation
        if self.compute != self.activation or self.weights.is_weight_only:
            return self.weights.gemm_dtype
        return "int8_wo" if self.weights.weight_bytes >= 1 else "int4_wo"

    @property
    def quantized_activation_bytes(self) -> float:
        """Bytes of an activation that a quantized GEMM reads."""
        plain = dtype_bytes(self.activation)
        if self.weights is None or self.compute == self.activation:
            return plain
        return self.weights.activation_bytes or plain

    @property
    def quantizes_activations(self) -> bool:
        """Whether activations are quantized before each quantized GEMM."""
        return self.quantized_activation_bytes < dtype_bytes(self.activation)


def resolve_precision(
    shape: ModelShape,
    *,
    dtype: str | None = None,
    quantization: str | None = None,
    kv_cache_dtype: str | None = None,
    native_dtypes: frozenset[str] | None = None,
) -> Precision:
    """Resolve vLLM's options of that name; None and "auto" mean as published (KV: as activations).

    Args:
        shape: The model.
        dtype, quantization, kv_cache_dtype: vLLM's options.
        native_dtypes: Dtypes that the accelerator multiplies; quantized weights in any other are
            widened in the kernel and multiplied as activations (as Marlin kernels do), and so is the KV
            cache. None: all.
    """
    activation = normalise_dtype(dtype if dtype not in (None, "auto") else shape.dtype)
    if activation == "float32" and dtype in (None, "auto"):
        activation = "float16"  # vLLM serves float32 checkpoints in 16 bits (_resolve_auto_dtype)
    stored = kv_format(activation if kv_cache_dtype in (None, "auto") else str(kv_cache_dtype))
    method = quantization or shape.quantization
    weights = weight_format(method) if method else None
    if weights and weights.with_fp4_units and native_dtypes is not None and "fp4" in native_dtypes:
        dtypes, name, read = weights.with_fp4_units
        weights = replace(weights, compute_dtype=dtypes, gemm_dtype=name, activation_bytes=read)
    compute = activation
    if weights and not weights.is_weight_only and _is_native(weights.compute_dtype, native_dtypes):
        compute = weights.compute_dtype
    quantized_kv = stored.native and stored.bits < 16 and _is_native(stored.name, native_dtypes)
    return Precision(activation, stored.name, weights, compute, stored.name if quantized_kv else activation)


def _is_native(dtype: str, native_dtypes: frozenset[str] | None) -> bool:
    return native_dtypes is None or dtype in native_dtypes
