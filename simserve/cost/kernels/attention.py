"""What all attention kernels share: generations of kernels, windows, bytes of the KV cache, the L2 cache.

A generation names who wrote the kernel, since that decides how work is cut into CTAs: FlashAttention-2 on
GPUs before Hopper, FlashAttention-3 on Hopper, TensorRT-LLM's generated kernels on Blackwell, FlashInfer's,
Triton's. A calibration variant is a generation and a path through it, "fa2/unpacked".
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from simserve.cost.kernels.form import Array, Device, Shapes

# Bytes of an element of the KV cache, scales included (int4 and int2: two 16-bit numbers for 32 elements,
# KIVI's).
KV_ELEMENT_BYTES = {
    "float32": 4.0, "float16": 2.0, "bfloat16": 2.0, "fp8": 1.0, "int8": 1.0, "int4": 0.625, "int2": 0.375,
}  # fmt: skip
# Queries and outputs are 16 bits wide.
QUERY_BYTES = 2.0
# Query heads that share a KV head beyond which kernels take other paths ("wide").
WIDEST_GROUP = 16
# Preference of generations where an accelerator has fits of several: the engine's own default backend first.
GENERATIONS = {
    "vllm": (
        "fa3", "trtllm-gen", "fa2", "xpu", "flash", "flashinfer", "fa4", "torch-flow", "triton", "pallas", "",
    ),
    "sglang": ("fa3", "trtllm-gen", "flashinfer", "flash", "fa2", "torch-flow", "triton", "pallas", ""),
    "trtllm": ("torch-flow", "torch-flow-flashinfer", "trtllm-gen", "fa3", "fa2", "flashinfer", "triton", ""),
}  # fmt: skip
# Architectures before (and beside) Hopper and datacentre Blackwell, on which vLLM runs FlashAttention-2.
_FA2_ARCHITECTURES = ("sm80", "sm86", "sm87", "sm89", "sm120")
# Intel's kernels take up to so long to launch, in the tables.
XPU_OVERHEAD_S = 1e-4
# What marks each generation in the tables' kernel names; the first that fits counts.
_MARKS = (
    ("torch_flow_flashinfer", "torch-flow-flashinfer"), ("torch_flow", "torch-flow"), ("triton", "triton"),
    ("fa4", "fa4"), ("fa3", "fa3"), ("fa2", "fa2"), ("trtllm", "trtllm-gen"), ("fi", "flashinfer"),
    ("flash_att", "flash"), ("pallas", "pallas"),
)  # fmt: skip


def generation_order(framework: str, architecture: str = "") -> tuple[str, ...]:
    """Return the generations, an engine's own default backend first.

    Args:
        framework: "vllm", "sglang" or "trtllm"; another one counts as vLLM.
        architecture: As of `Accelerator.architecture`; matters only where no kernel of it has been fitted.
    """
    order = GENERATIONS.get(framework, GENERATIONS["vllm"])
    if any(architecture.endswith(name) for name in _FA2_ARCHITECTURES):
        return ("fa2", *(generation for generation in order if generation != "fa2"))
    return order


def other_variants(variant: str, fitted: Collection[str]) -> list[str]:
    """Return fitted variants that may stand for another: its generation first, then its path."""
    generation, _, path = variant.partition("/")
    order = GENERATIONS["vllm"]

    def distance(name: str) -> tuple[bool, bool, int, str]:
        other, _, way = name.partition("/")
        return other != generation, way != path, order.index(other) if other in order else len(order), name

    return sorted(fitted, key=distance)


def generation_of(kernel: str, framework: str, hardware: str) -> str:
    """Return the generation that a table's kernel name means; "" if none is known.

    Args:
        kernel: As in the table, "vllm_flash_attn_fa3".
        framework: As in the table; vLLM's plain "flash_attn" was FlashAttention-2, but for Intel's GPUs.
        hardware: As in the table.
    """
    name = kernel.lower()
    found = next((generation for mark, generation in _MARKS if mark in name.replace("flashinfer", "fi")), "")
    if found == "flash" and framework == "vllm":
        return "xpu" if hardware.startswith("b60") else "fa2"
    return found


def group_of(heads: float, kv_heads: float) -> str:
    """Return "mha", "gqa" (2 to 16 query heads a KV head) or "wide"."""
    shared = heads / kv_heads
    return "mha" if shared <= 1 else ("gqa" if shared <= WIDEST_GROUP else "wide")


def kv_element_bytes(shapes: Shapes) -> Array:
    """Return bytes of an element of the KV cache: the column kv_bytes, 16 bits where it is missing."""
    return np.asarray(shapes["kv_bytes"]) if "kv_bytes" in shapes else np.asarray(QUERY_BYTES)


def l2_hit_share(size: Array, device: Device, share: float, sharpness: float) -> Array:
    """Return which share of a benchmark's data comes from the L2 cache after the first repetition.

    Args:
        size: Bytes that every repetition reads.
        device: With the size of its L2 cache.
        share: Of the cache, up to which data stay.
        sharpness: How suddenly they are lost beyond it; 1 or more.
    """
    ratio = size / max(share * device.l2_bytes, 1.0)
    return np.asarray(1 / (1 + np.minimum(ratio, 1e6) ** min(sharpness, 40.0)))
