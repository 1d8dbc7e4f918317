"""Which operators of a layer are kernels of their own in a serving engine, and which ride in another's.

The model lists what has to be computed; engines fuse some of it. Three rules cover the engines of 2023 to
today.
"""

from __future__ import annotations

from dataclasses import dataclass

from simserve.devices.accelerator import Accelerator
from simserve.errors import UnknownNameError
from simserve.model.operators import Operator, OperatorFamily, StageOperators

# Measured attention contains the write of new keys and values (vLLM's `reshape_and_cache`).
_IN_ATTENTION = ("write_kv",)
# Formats whose quantisation is arithmetic that a compiler can put into the kernel before; NVFP4's packing of
# two values with block scales is a custom kernel.
_COMPILED_FORMATS = ("fp8", "fp8_block", "sq", "int8")


@dataclass(frozen=True, slots=True)
class FusionRule:
    """What is fused.

    Attributes:
        name: Its name.
        quantize: Activations are quantised by the norm or activation function that writes them.
        all_reduce_norm: The norm after an all-reduce, and the quantisation after that, are part of it.
        attention_quantize: Attention writes its output quantised.
        rope_norm: The rotary embedding is part of the norms of queries and keys, where there are any.
        source: Where the rule is from.
    """

    name: str
    quantize: bool
    all_reduce_norm: bool
    attention_quantize: bool
    rope_norm: bool
    source: str

    def launches(self, operator: Operator, *, tensor_parallel: bool, norms_heads: bool) -> bool:
        """Whether an operator is a kernel of its own.

        Args:
            operator: As the model lists it.
            tensor_parallel: Whether there are all-reduces to fuse with.
            norms_heads: Whether queries and keys are normalised before they are rotated.
        """
        if operator.name in _IN_ATTENTION:
            return False
        if operator.name == "rope":
            return not (self.rope_norm and norms_heads)
        reduces = self.all_reduce_norm and tensor_parallel
        if operator.family is not OperatorFamily.QUANTIZE:
            return not (reduces and operator.name == "norm")
        if operator.name.endswith("_after_norm") and reduces:
            return False
        if "_after_" in operator.name:
            return not (self.quantize and operator.kernel_dtype in _COMPILED_FORMATS)
        return not (self.attention_quantize and operator.name == "quantize_attention_output")


FUSION_RULES = {
    rule.name: rule
    for rule in (
        FusionRule("eager", False, False, False, False, "vLLM's custom kernels, one an operator (2023)"),
        FusionRule("compiled", True, False, False, True, "torch.compile with CUDA graphs (vLLM since 0.8)"),
        FusionRule(
            "flashinfer", True, True, True, True,
            "vLLM's passes fuse_allreduce_rms, fuse_attn_quant and fuse_norm_quant (on Blackwell)",
        ),
    )
}  # fmt: skip


def default_fusion(accelerator: Accelerator) -> str:
    """Return the rule of today's vLLM on an accelerator."""
    joined = accelerator.link_domain > 1 and "Blackwell" in accelerator.architecture
    return "flashinfer" if joined else "compiled"


def fuse(operators: StageOperators, rule: str, *, tensor_parallel: bool) -> StageOperators:
    """Return a stage's operators without those that ride in another's kernel.

    Args:
        operators: As the model lists them.
        rule: Name of the rule.
        tensor_parallel: Whether the stage has several ranks.

    Raises:
        UnknownNameError: If there is no such rule.
    """
    if rule not in FUSION_RULES:
        raise UnknownNameError("fusion rule", rule, FUSION_RULES)
    norms_heads = any(entry.name == "qk_norm" for entry in operators.token_operators)
    kept = (
        entry
        for entry in operators.token_operators
        if FUSION_RULES[rule].launches(entry, tensor_parallel=tensor_parallel, norms_heads=norms_heads)
    )
    return StageOperators(
        tuple(kept), operators.sample_operators, operators.attention, operators.send_bytes_a_token
    )
