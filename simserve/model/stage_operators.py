"""Lists the operators of one pipeline stage from the model's shape."""

from __future__ import annotations

from collections import Counter

from simserve.errors import InputError
from simserve.model.dtype import dtype_bytes
from simserve.model.operators import (
    AttentionOperator,
    ExpertWeights,
    Operator,
    OperatorFamily,
    StageOperators,
)
from simserve.model.precision import Precision
from simserve.model.shape import ModelShape
from simserve.model.stage import Stage

_FP32_BYTES = 4.0
# Passes over the float32 logits after the LM head: penalties and temperature, then the choice
# (vllm/v1/sample/sampler.py).
_SAMPLER_PASSES = 2


def list_operators(
    shape: ModelShape, stage: Stage, precision: Precision, tensor_parallel_size: int = 1
) -> StageOperators:
    """List what one rank of `stage` runs in a step.

    Args:
        shape: The model.
        stage: Its layers, and whether embedding and LM head stand here.
        precision: Dtypes, from `resolve_precision`.
        tensor_parallel_size: Ranks of the stage.

    Raises:
        InputError: If the heads cannot be split over the ranks.
    """
    if shape.num_heads % tensor_parallel_size:
        raise InputError(
            f"tensor_parallel_size {tensor_parallel_size} does not divide the {shape.num_heads} attention "
            f"heads of {shape.name}"
        )
    lister = _Lister(shape, stage, precision, tensor_parallel_size)
    return StageOperators(
        token_operators=tuple(operator for operator in lister.token_operators() if operator.count),
        sample_operators=tuple(lister.sample_operators()) if stage.has_lm_head else (),
        attention=tuple(lister.attention()),
        # Hidden states and residual (vLLM's IntermediateTensors).
        send_bytes_a_token=0.0 if stage.has_lm_head else 2 * shape.hidden_size * lister.act_bytes,
    )


class _Lister:
    """Builds one stage's operators; holds what they share."""

    def __init__(self, shape: ModelShape, stage: Stage, precision: Precision, ranks: int) -> None:
        self.shape = shape
        self.stage = stage
        self.precision = precision
        self.ranks = ranks
        self.act_bytes = dtype_bytes(precision.activation)
        self.moe_layers = sum(shape.layer_experts[stage.first_layer : stage.last_layer])
        self.dense_layers = stage.num_layers - self.moe_layers

    def token_operators(self) -> list[Operator]:
        shape, layers = self.shape, self.stage.num_layers
        result = [*self._outer(), *self._projections(layers), *self._elementwise(layers)]
        if self.dense_layers:
            result += self._mlp("mlp", self.dense_layers, shape.intermediate_size, shape.gated_mlp)
        if self.moe_layers:
            result += self._experts()
        if self.ranks > 1:
            # After the attention's output and after the MLP (Megatron-LM); the embedding is sharded too.
            count = 2 * layers + self.stage.has_embedding
            result.append(self._collective("all_reduce", OperatorFamily.ALL_REDUCE, count, shape.hidden_size))
        return result

    def sample_operators(self) -> list[Operator]:
        vocab, plain = self.shape.padded_vocab(), self.precision.activation
        result = [self._gemm("lm_head", 1, vocab / self.ranks, self.shape.hidden_size, quantized=False)]
        if self.ranks > 1:
            result.append(self._collective("logits_all_gather", OperatorFamily.ALL_GATHER, 1, vocab))
        widen = vocab * (self.act_bytes + _FP32_BYTES)
        result.append(Operator("logits_to_float32", OperatorFamily.ELEMENTWISE, 1, 0.0, widen, 0.0, plain))
        choose = vocab * _FP32_BYTES
        result.append(
            Operator("sampling", OperatorFamily.ELEMENTWISE, _SAMPLER_PASSES, 0.0, choose, 0.0, plain)
        )
        return result

    def attention(self) -> list[AttentionOperator]:
        """One entry a window size, full attention (0) first."""
        shape = self.shape
        heads = shape.num_heads // self.ranks
        kv_bytes = shape.kv_bytes_per_token_layer(self.precision.kv_cache, self.ranks)
        if shape.is_mla:
            # Prefill expands the latent to full heads; decode absorbs the expansion into the query and
            # works on the latent (DeepSeek-V2, arXiv:2405.04434, section 2.1; vllm MLACommonImpl).
            qk_dim = shape.qk_nope_head_dim + shape.qk_rope_head_dim
            prefill = 2.0 * heads * (qk_dim + shape.v_head_dim)
            decode = 2.0 * heads * (2 * shape.kv_lora_rank + shape.qk_rope_head_dim)
            history = 2.0 * shape.kv_lora_rank * heads * (shape.qk_nope_head_dim + shape.v_head_dim)
            query_bytes = heads * (qk_dim + shape.v_head_dim) * self.act_bytes
        else:
            prefill = decode = 4.0 * heads * shape.head_dim
            history = 0.0
            query_bytes = 2 * heads * shape.head_dim * self.act_bytes
        windows = Counter(shape.layer_windows[self.stage.first_layer : self.stage.last_layer])
        plain = self.precision.activation
        return [
            AttentionOperator(layers, window, prefill, decode, history, kv_bytes, query_bytes, plain)
            for window, layers in sorted(windows.items())
        ]

    def _projections(self, layers: int) -> list[Operator]:
        shape, hidden, ranks = self.shape, self.shape.hidden_size, self.ranks
        heads = shape.num_heads / ranks
        if not shape.is_mla:
            width = (heads + 2 * shape.kv_heads_per_rank(ranks)) * shape.head_dim
            return [
                self._gemm("qkv", layers, width, hidden),
                self._gemm("attention_output", layers, hidden, heads * shape.head_dim),
            ]
        qk_dim = shape.qk_nope_head_dim + shape.qk_rope_head_dim
        latent = shape.kv_lora_rank + shape.qk_rope_head_dim
        query = (
            # The down projections of query and KV are one GEMM, held whole by every rank.
            [
                self._gemm("latent_down", layers, shape.q_lora_rank + latent, hidden),
                self._gemm("query_up", layers, heads * qk_dim, shape.q_lora_rank),
            ]
            if shape.q_lora_rank
            else [
                self._gemm("query", layers, heads * qk_dim, hidden),
                self._gemm("latent_down", layers, latent, hidden),
            ]
        )
        # Expansion of the new tokens' latent; absorbed into query and output in decode, at the same cost.
        expand = heads * (shape.qk_nope_head_dim + shape.v_head_dim)
        return [
            *query,
            self._gemm("latent_up", layers, expand, shape.kv_lora_rank),
            self._gemm("attention_output", layers, hidden, heads * shape.v_head_dim),
        ]

    def _mlp(self, name: str, layers: int, width: int, gated: bool) -> list[Operator]:
        inputs, local = (2 if gated else 1), width / self.ranks
        return [
            self._gemm(f"{name}_up", layers, inputs * local, self.shape.hidden_size),
            self._elementwise_operator(f"{name}_activation", layers, (inputs + 1) * local),
            self._gemm(f"{name}_down", layers, self.shape.hidden_size, local),
        ]

    def _experts(self) -> list[Operator]:
        """Router, routed and shared experts of the MoE layers.

        Experts are sharded over the ranks, by width (tensor parallel) or whole (expert parallel): with
        balanced routing the FLOPs and the expected weight bytes of a rank are the same.
        """
        shape, layers, top_k = self.shape, self.moe_layers, self.shape.experts_per_token
        hidden, width = shape.hidden_size, shape.moe_intermediate_size / self.ranks
        result = [
            self._gemm("router", layers, shape.num_experts, hidden, quantized=False),
            self._elementwise_operator("route", layers, 2 * shape.num_experts + 2 * top_k),
            self._expert_gemm("experts_up", layers, 2 * width, hidden),
            self._elementwise_operator("experts_activation", layers, 3 * width * top_k),
            self._expert_gemm("experts_down", layers, hidden, width),
            self._elementwise_operator("combine_experts", layers, (top_k + 1) * hidden),
        ]
        if shape.shared_expert_intermediate_size:
            result += self._mlp("shared_expert", layers, shape.shared_expert_intermediate_size, gated=True)
        return result

    def _elementwise(self, layers: int) -> list[Operator]:
        shape = self.shape
        hidden = shape.hidden_size
        kv_elements = shape.kv_bytes_per_token_layer("bfloat16", self.ranks) / 2
        if shape.is_mla:
            qk_dim = shape.qk_nope_head_dim + shape.qk_rope_head_dim
            query_elements = shape.num_heads / self.ranks * qk_dim
            rotated = (shape.num_heads / self.ranks + 1) * shape.qk_rope_head_dim
        else:
            query_elements = shape.num_heads / self.ranks * shape.head_dim
            rotated = query_elements + kv_elements / 2
        result = [
            # Two norms are fused with the residual addition: read and write both streams.
            self._elementwise_operator("norm", layers * min(shape.norms_per_layer, 2), 4 * hidden),
            self._elementwise_operator("plain_norm", layers * max(shape.norms_per_layer - 2, 0), 2 * hidden),
            self._elementwise_operator(
                "qk_norm", 2 * layers * shape.qk_norm, query_elements + kv_elements / 2
            ),
            self._elementwise_operator("write_kv", layers, 2 * kv_elements),
        ]
        if shape.is_mla:
            latent = shape.kv_lora_rank + shape.q_lora_rank
            result.append(self._elementwise_operator("latent_norm", layers, 2 * latent))
        if not shape.learned_positions and not shape.embedding_norm:  # OPT; BLOOM has ALiBi
            result.append(self._elementwise_operator("rope", layers, 2 * rotated))
        return result

    def _outer(self) -> list[Operator]:
        hidden = self.shape.hidden_size
        reads = 2 * hidden * (2 if self.shape.learned_positions else 1)
        return [
            self._elementwise_operator("embedding", int(self.stage.has_embedding), reads),
            self._elementwise_operator(
                "embedding_norm", int(self.stage.has_embedding and self.shape.embedding_norm), 2 * hidden
            ),
            self._elementwise_operator("final_norm", int(self.stage.has_lm_head), 4 * hidden),
        ]

    def _gemm(self, name: str, count: int, n: float, k: float, *, quantized: bool = True) -> Operator:
        """[rows, k] x [k, n]: weights once, rows in and out."""
        fmt = self.precision.weights
        stored = fmt if fmt and quantized and not fmt.experts_only else None
        weight_bytes = stored.weight_bytes if stored else self.act_bytes
        dtype = self.precision.compute if stored else self.precision.activation
        row_bytes = k * dtype_bytes(dtype) + n * self.act_bytes
        return Operator(name, OperatorFamily.GEMM, count, 2.0 * n * k, row_bytes, n * k * weight_bytes, dtype)

    def _expert_gemm(self, name: str, count: int, n: float, k: float) -> Operator:
        """The routed experts' share: each token's row meets `experts_per_token` matrices of [k, n]."""
        shape, fmt = self.shape, self.precision.weights
        weight_bytes = fmt.weight_bytes if fmt else self.act_bytes
        dtype = self.precision.compute if fmt else self.precision.activation
        row_bytes = shape.experts_per_token * (k * dtype_bytes(dtype) + n * self.act_bytes)
        flops = 2.0 * shape.experts_per_token * n * k
        weights = ExpertWeights(shape.num_experts, shape.experts_per_token, n * k * weight_bytes)
        return Operator(name, OperatorFamily.EXPERTS, count, flops, row_bytes, 0.0, dtype, weights)

    def _elementwise_operator(self, name: str, count: int, elements: float) -> Operator:
        moved = elements * self.act_bytes
        return Operator(name, OperatorFamily.ELEMENTWISE, count, 0.0, moved, 0.0, self.precision.activation)

    def _collective(self, name: str, family: OperatorFamily, count: int, elements: int) -> Operator:
        message = elements * self.act_bytes
        return Operator(name, family, count, 0.0, message, 0.0, self.precision.activation)
