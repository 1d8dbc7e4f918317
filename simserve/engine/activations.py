"""Peak of the activations in vLLM's profiling run: the largest batch, then the sampler, on one rank.

First principles over the tensors that are alive at once in a layer; vLLM measures the same peak
(`profile_run` in vllm/v1/worker/gpu_model_runner.py).
"""

from __future__ import annotations

from simserve.model.dtype import dtype_bytes
from simserve.model.parallelism import Parallelism
from simserve.model.shape import ModelShape
from simserve.model.stage import Stage

# Until this version vLLM sorted all logits for top-k and top-p; after it a Triton kernel selects without
# a sort (vllm pull request 33538; vllm/v1/sample/ops/topk_topp_sampler.py).
_LAST_SORTING_SAMPLER = (0, 15)
# The MLA backend's workspace for the expanded KV of a prefill chunk (MLACommonMetadataBuilder,
# vllm/v1/attention/backends/mla/common.py): 64 Ki tokens of latent.
_MLA_WORKSPACE_TOKENS = 64 * 1024
# Fused MoE works on so many rows at a time (VLLM_FUSED_MOE_CHUNK_SIZE, vllm/envs.py).
_EXPERT_CHUNK_TOKENS = 16 * 1024


def activation_bytes(
    shape: ModelShape,
    stage: Stage,
    *,
    max_num_batched_tokens: int,
    max_num_seqs: int,
    tensor_parallel_size: int = 1,
    data_parallel_size: int = 1,
    enable_expert_parallel: bool = False,
    dtype: str | None = None,
    version: tuple[int, int] = (0, 19),
) -> int:
    """Return the peak of activations of one rank, in bytes.

    Args:
        shape: The model.
        stage: Its layers on this rank; the sampler counts on the last stage only.
        max_num_batched_tokens: Tokens of the profiled batch.
        max_num_seqs: Rows that reach the sampler.
        tensor_parallel_size: Ranks of the stage.
        data_parallel_size: Copies of the stage whose tokens the experts see together.
        enable_expert_parallel: Experts are whole, not cut by width.
        dtype: Dtype of activations; default: the model's.
        version: vLLM's (major, minor).
    """
    element = dtype_bytes(dtype or shape.dtype)
    layers = range(stage.first_layer, stage.last_layer)
    widths = [_attention_width(shape, tensor_parallel_size)]
    if any(shape.layer_experts[layer] for layer in layers):
        tokens = min(max_num_batched_tokens * data_parallel_size, _EXPERT_CHUNK_TOKENS)
        copies = max(1.0, tokens / max_num_batched_tokens)
        ranks = Parallelism(tensor_parallel_size, data_parallel_size, enable_expert_parallel)
        widths.append(_expert_width(shape, ranks, copies))
    if not all(shape.layer_experts[layer] for layer in layers):
        widths.append(_mlp_width(shape, tensor_parallel_size))
    # Beside a layer's own tensors live its input and the residual stream.
    peak = max_num_batched_tokens * (max(widths) + 2 * shape.hidden_size) * element
    if stage.has_lm_head:
        rows = min(max_num_seqs, max_num_batched_tokens)
        sampler = rows * shape.padded_vocab() * _sampler_bytes(element, version)
        peak = max(peak, sampler + max_num_batched_tokens * shape.hidden_size * element)
    if shape.is_mla:
        # Held all the time, beside the peak.
        peak += _MLA_WORKSPACE_TOKENS * (shape.kv_lora_rank + shape.qk_rope_head_dim) * element
    return int(peak)


def _attention_width(shape: ModelShape, tensor_parallel_size: int) -> float:
    """Elements a token alive in attention: queries, keys, values, and the output."""
    if shape.is_mla:
        head = 2 * (shape.qk_nope_head_dim + shape.qk_rope_head_dim) + 2 * shape.v_head_dim
        return shape.num_heads * head / tensor_parallel_size + shape.kv_lora_rank + shape.q_lora_rank
    heads = 2 * shape.num_heads / tensor_parallel_size + 2 * shape.kv_heads_per_rank(tensor_parallel_size)
    return heads * shape.head_dim


def _mlp_width(shape: ModelShape, tensor_parallel_size: int) -> float:
    """Elements a token alive in a dense MLP: the first projection's output and the activation's."""
    inputs = 2 if shape.gated_mlp else 1
    return (inputs + 1) * shape.intermediate_size / tensor_parallel_size


def _expert_width(shape: ModelShape, ranks: Parallelism, copies: float) -> float:
    """Elements a token of this rank alive in fused MoE: two caches, a row for each of the token's experts.

    `copies` tokens of all data-parallel ranks are gathered for each of this rank's. The first cache holds
    gate and up, then the down projection's output; the second the activation's (`fused_experts_impl` in
    vllm/model_executor/layers/fused_moe/fused_moe.py). They have room for all experts of a token, whichever
    rank has them.
    """
    inner = shape.moe_intermediate_size / ranks.expert_tensor_ranks
    shared = 3 * shape.shared_expert_intermediate_size / ranks.tensor_parallel_size
    routed = shape.experts_per_token * (max(2 * inner, shape.hidden_size) + inner)
    return copies * (routed + shape.hidden_size * (copies > 1)) + max(shared, shape.hidden_size)


def _sampler_bytes(element: float, version: tuple[int, int]) -> float:
    """Bytes a logit alive in the sampler.

    A radix sort holds the model's and the FP32 logits, sorted FP32 values and 64-bit indices, and scratch
    of their size; without it the peak is logits, FP32 logits, probabilities and noise.
    """
    if version <= _LAST_SORTING_SAMPLER:
        return element + 4.0 + 2 * (4.0 + 8.0)
    return element + 3 * 4.0
