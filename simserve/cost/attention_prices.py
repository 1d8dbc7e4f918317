"""Which kernel models price attention: decodes, prefill chunks, both in one launch, and latent attention."""

from __future__ import annotations

import numpy as np

from simserve.cost.fitted_kernel import FittedKernel
from simserve.cost.kernel_book import KernelBook
from simserve.cost.kernels.decode_attention import decode_variants
from simserve.cost.kernels.form import Array, Shapes
from simserve.cost.kernels.gemm import SERVING_VARIANTS
from simserve.cost.kernels.mla import mla_variants
from simserve.cost.kernels.prefill_attention import prefill_variants
from simserve.cost.prices import KERNEL_DTYPE, same
from simserve.model.operators import AttentionOperator

# KV dtypes of tables of measured attention.
_KERNEL_KV_DTYPES = ("bfloat16", "fp8")
# vLLM's rows of latent attention were launched one by one: 130 to 230 us at any size. In a CUDA graph its
# kernels run as those of others do.
_LATENT_FRAMEWORK = "trtllm"
_FA2_DECODE = "D3-fa2"
# Decodes alone in the tables of mixed batches.
_FA2_DECODES = "fa2/decodes"
# Contexts of a real batch differ, and FlashAttention-2's grid is as long as its longest: over the tables of
# uneven contexts (LLMServingSim's skewed batches of 16 and more on RTX 4090 and RTX PRO 6000) a launch takes
# 1.04 times what it takes at the mean, on average.
_UNEVEN = 1.04
# Beside a chunk FlashAttention-3 computes decodes with the causal kernel of prompts. No table of kernels has
# such launches; steps with and without one prompt on H100 (docs/background/fidelity.md) put what it costs at
# 1.5 times (Qwen3-14B), 1.3 (CodeLlama-34B, Llama-2-70B) and 1.0 (Mixtral, Llama-2-7B).
_BESIDE_CHUNK = 1.3
# Tokens of the chunk at which the decodes' part of a mixed launch is read off.
_MIXED_CHUNK = 512.0


class KernelAttention:
    """Attention priced by fitted kernels; an `AttentionPrices`.

    Args:
        operator: The layers.
        book: Kernels of the accelerator.
        architecture: The accelerator's; decides which kernels it would run where nobody has measured any.
    """

    def __init__(self, operator: AttentionOperator, book: KernelBook, architecture: str = "") -> None:
        self.operator = operator
        self.book = book
        self.architecture = architecture
        latent = operator.latent_dim + operator.rope_dim
        elements = latent or 2 * operator.kv_heads * operator.head_dim
        self._element_bytes = operator.kv_bytes_a_token / elements

    def kernel(self, phase: str) -> FittedKernel:
        """The kernel of a phase: "decode" or "prefill"."""
        operator = self.operator
        # Formats that no tensor core multiplies are widened in the kernel: 16-bit kernels that read less.
        kv = operator.kv_dtype if operator.kv_dtype in _KERNEL_KV_DTYPES else KERNEL_DTYPE
        where = {"architecture": self.architecture}
        if operator.latent_dim:
            variants = (phase, *mla_variants(phase, framework=_LATENT_FRAMEWORK, **where))
            return self.book.kernel("mla", KERNEL_DTYPE, kv, variant=variants, framework=_LATENT_FRAMEWORK)
        if phase == "prefill":
            variants = prefill_variants(operator.window, **where)
            return self.book.kernel("prefill_attention", KERNEL_DTYPE, kv, variant=variants)
        variants = decode_variants(operator.heads, operator.kv_heads, operator.window, **where)
        kernel = self.book.kernel("decode_attention", KERNEL_DTYPE, kv, variant=variants)
        if kernel.form.name == _FA2_DECODE and operator.heads > operator.kv_heads and not operator.window:
            # Profiles of whole layers under vLLM hold what decodes take there, packed.
            profiled = self.book.kernel("mixed_attention", KERNEL_DTYPE, kv, variant=_FA2_DECODES)
            if profiled.tier == "calibrated":
                return profiled
        return kernel

    def decode_s(self, decodes: Array, context: Array) -> Array:
        """Of `decodes` sequences of one token each, with `context` keys each."""
        kernel = self.kernel("decode")
        seconds = kernel.seconds(self._decode_shapes(decodes, context))
        return seconds * _UNEVEN if kernel.form.name == _FA2_DECODE else seconds

    def provenance(self, phase: str, size: float, context: float) -> tuple[str, str, float | None]:
        """What prices `size` decodes of a mean context, or a chunk of `size` tokens after it."""
        first, second = np.array([size]), np.array([context])
        if phase == "decode":
            return self.kernel(phase).provenance(self._decode_shapes(first, second))
        return self.kernel(phase).provenance(self._shapes(np.ones(1), q_len=first, kv_prefix=second))

    def _decode_shapes(self, decodes: Array, context: Array) -> Shapes:
        if self.operator.latent_dim:
            return self._shapes(decodes, q_len=np.ones_like(decodes), kv_prefix=context - 1)
        return self._shapes(decodes, kv_len=context)

    def prefill_s(self, chunks: Array, tokens: Array, history: Array) -> Array:
        """Of `chunks` equal chunks; MLA expands their cached history first."""
        seconds = self.kernel("prefill").seconds(self._shapes(chunks, q_len=tokens, kv_prefix=history))
        if self.operator.history_flops_a_token:
            gemm = self.book.kernel("gemm", KERNEL_DTYPE, variant=SERVING_VARIANTS)
            rate = gemm.device.flops_per_s * gemm.constants.get("compute_efficiency", 1.0)
            seconds = seconds + chunks * history * self.operator.history_flops_a_token / rate
        return seconds

    def mixed_decode_s(self, decodes: Array, context: Array) -> Array:
        """What decodes add to a launch that holds a prefill chunk.

        FlashAttention 2 runs both in one kernel that neither packs query heads nor splits the context
        (kernel study, finding 3); elsewhere it is their own time but for its fixed part, and longer on
        Hopper.
        """
        mixed = self._mixed_kernel()
        if mixed is None:
            least = float(self.decode_s(np.ones(1), np.ones(1))[0])
            alone = np.maximum(self.decode_s(decodes, context) - least, 0.0)
            return alone * _BESIDE_CHUNK if "Hopper" in self.architecture else alone
        heads = self._heads(decodes)
        chunk = {"prefill_chunk": same(decodes, _MIXED_CHUNK), "kv_prefill": np.zeros_like(decodes)}
        both = mixed.seconds({**chunk, "n_decode": decodes, "kv_decode": context, **heads})
        none = {"n_decode": np.zeros_like(decodes), "kv_decode": np.zeros_like(decodes)}
        return _UNEVEN * np.maximum(both - mixed.seconds({**chunk, **none, **heads}), 0.0)

    def _mixed_kernel(self) -> FittedKernel | None:
        if self.operator.latent_dim or self.kernel("decode").form.name != _FA2_DECODE:
            return None
        return self.book.kernel("mixed_attention", KERNEL_DTYPE, KERNEL_DTYPE, variant="fa2")

    def _shapes(self, batch: Array, **columns: Array) -> Shapes:
        """The shape columns of a launch."""
        kv_bytes = same(batch, self._element_bytes)
        return {"batch": batch, **columns, **self._heads(batch), "kv_bytes": kv_bytes}

    def _heads(self, batch: Array) -> Shapes:
        operator = self.operator
        if operator.latent_dim:
            constant = {
                "heads": operator.heads,
                "kv_lora_rank": operator.latent_dim,
                "rope_dim": operator.rope_dim,
                "nope_dim": operator.head_dim - operator.rope_dim,
                "value_dim": operator.value_dim,
            }
        else:
            constant = {
                "heads": operator.heads,
                "kv_heads": operator.kv_heads,
                "head_dim": operator.head_dim,
                "window": operator.window,
            }
        return {name: same(batch, float(value)) for name, value in constant.items()}
