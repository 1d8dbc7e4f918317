"""Resolves the dtypes of a run: activations, KV cache, weights, and what the GEMMs compute in."""

from __future__ import annotations

from dataclasses import dataclass

from simserve.model.dtype import WeightFormat, normalise_dtype, weight_format
from simserve.model.shape import ModelShape


@dataclass(frozen=True, slots=True)
class Precision:
    """Dtypes of a run.

    Attributes:
        activation: Dtype of activations and of unquantized weights.
        kv_cache: Dtype of the KV cache.
        weights: Format of the quantized weights; None: unquantized.
        compute: Dtype in which quantized GEMMs run on the accelerator.
    """

    activation: str
    kv_cache: str
    weights: WeightFormat | None
    compute: str


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
            widened in the kernel and multiplied as activations (as Marlin kernels do). None: all.
    """
    activation = normalise_dtype(dtype if dtype not in (None, "auto") else shape.dtype)
    if activation == "float32" and dtype in (None, "auto"):
        activation = "float16"  # vLLM serves float32 checkpoints in 16 bits (_resolve_auto_dtype)
    kv_cache = activation if kv_cache_dtype in (None, "auto") else normalise_dtype(kv_cache_dtype)
    method = quantization or shape.quantization
    weights = weight_format(method) if method else None
    compute = activation
    if (
        weights
        and weights.compute_dtype != "activation"
        and (native_dtypes is None or weights.compute_dtype in native_dtypes)
    ):
        compute = weights.compute_dtype
    return Precision(activation, kv_cache, weights, compute)
