"""Formats of the KV cache: bits an element, the scales stored beside them, and how attention reads them."""

from __future__ import annotations

from dataclasses import dataclass

from simserve.errors import UnknownNameError


@dataclass(frozen=True, slots=True)
class KVFormat:
    """How keys and values are stored.

    Attributes:
        name: Canonical name.
        bits: Bits an element.
        group: Elements that share a scale: a number, 0 for a head's whole vector, -1 for the whole tensor
            (whose scale counts as nothing).
        scale_bytes: Bytes of scale and zero point a group.
        native: Whether tensor cores multiply it as it is; else the kernel widens it to the activations'
            dtype first (less memory traffic, the same arithmetic).
        accuracy: What it costs in accuracy, with the source.
    """

    name: str
    bits: int
    group: int
    scale_bytes: float
    native: bool
    accuracy: str

    def vector_bytes(self, elements: int) -> float:
        """Bytes of one token's key (or value) of one head: `elements` values and their scales."""
        groups = 0.0 if self.group < 0 else elements / (self.group or elements)
        return elements * self.bits / 8 + groups * self.scale_bytes


_PLAIN = "the dtype of the activations: no loss"
# int8: a 16-bit scale and zero point for each token and head. int4: groups of 64 with a 16-bit scale and zero
# point (FlexGen, arXiv:2303.06865, 4.3). int2: groups of 32 with the same (KIVI, arXiv:2402.02750; its
# last 128 tokens stay in 16 bits, which is left out here).
KV_FORMATS: dict[str, KVFormat] = {
    "bfloat16": KVFormat("bfloat16", 16, -1, 0.0, True, _PLAIN),
    "float16": KVFormat("float16", 16, -1, 0.0, True, _PLAIN),
    "float32": KVFormat("float32", 32, -1, 0.0, True, _PLAIN),
    "fp8": KVFormat(
        "fp8", 8, -1, 0.0, True, "within noise for E4M3 with a scale a tensor (vLLM, 'Quantized KV Cache')"
    ),
    "int8": KVFormat(
        "int8", 8, 0, 4.0, False, "negligible: 4 bits already are (FlexGen, arXiv:2303.06865, abstract)"
    ),
    "int4": KVFormat("int4", 4, 64, 4.0, False, "negligible (FlexGen, arXiv:2303.06865, abstract)"),
    "int2": KVFormat(
        "int2", 2, 32, 4.0, False,
        "almost the same quality on Llama, Falcon and Mistral (KIVI, arXiv:2402.02750, abstract)",
    ),
}  # fmt: skip
_ALIASES = {
    "half": "float16",
    "fp16": "float16",
    "bf16": "bfloat16",
    "float": "float32",
    "fp32": "float32",
    "fp8_e4m3": "fp8",
    "fp8_e5m2": "fp8",
    "fp8_inc": "fp8",
    "int8_per_token_head": "int8",
    "int4_per_token_head": "int4",
}


def kv_format(name: str) -> KVFormat:
    """Return the format of a `kv_cache_dtype`.

    Raises:
        UnknownNameError: If there is no such format.
    """
    key = name.lower().removeprefix("torch.")
    key = _ALIASES.get(key, key)
    if key not in KV_FORMATS:
        raise UnknownNameError("kv_cache_dtype", name, [*KV_FORMATS, *_ALIASES])
    return KV_FORMATS[key]
