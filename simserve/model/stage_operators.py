"""Lists the operators of one pipeline stage from the model's shape."""

from __future__ import annotations

from collections import Counter

from simserve.errors import InputError
from simserve.model.dtype import dtype_bytes
from simserve.model.expert_operators import list_expert_operators
from simserve.model.operator_build import OperatorBuilder
from simserve.model.operators import AttentionOperator, Operator, OperatorFamily, StageOperators
from simserve.model.parallelism import Parallelism
from simserve.model.precision import Precision
from simserve.model.shape import ModelShape
from simserve.model.stage import Stage

_FP32_BYTES = 4.0
# Passes over the float32 logits after the LM head: penalties and temperature, then the choice
# (vllm/v1/sample/sampler.py).
_SAMPLER_PASSES = 2


def list_operators(
    shape: ModelShape,
    stage: Stage,
    precision: Precision,
    tensor_parallel_size: int = 1,
    parallelism: Parallelism | None = None,
) -> StageOperators:
    """List what one rank of `stage` runs in a step.

    Args:
        shape: The model.
        stage: Its layers, and whether embedding and LM head stand here.
        precision: Dtypes, from `resolve_precision`.
        tensor_parallel_size: Ranks of the stage, if `parallelism` is not given.
        parallelism: How they share a layer; default: tensor parallel.

    Raises:
        InputError: If the heads or the experts cannot be split over the ranks.
    """
    ranks = parallelism or Parallelism(tensor_parallel_size)
    if shape.num_heads % ranks.tensor_parallel_size:
        raise InputError(
            f"tensor_parallel_size {ranks.tensor_parallel_size} does not divide the {shape.num_heads} "
            f"attention heads of {shape.name}"
        )
    lister = _Lister(shape, stage, precision, ranks)
    return StageOperators(
        token_operators=tuple(operator for operator in lister.token_operators() if operator.count),
        sample_operators=tuple(lister.sample_operators()) if stage.has_lm_head else (),
        attention=tuple(lister.attention()),
        # Hidden states and residual (vLLM's IntermediateTensors).
        send_bytes_a_token=0.0 if stage.has_lm_head else 2 * shape.hidden_size * lister.act_bytes,
    )


class _Lister:
    """Builds one stage's operators; holds what they share."""

    def __init__(self, shape: ModelShape, stage: Stage, precision: Precision, ranks: Parallelism) -> None:
        self.shape = shape
        self.stage = stage
        self.precision = precision
        self.parallelism = ranks
        self.ranks = ranks.tensor_parallel_size
        self.make = OperatorBuilder(precision)
        self.act_bytes = dtype_bytes(precision.activation)
        self.moe_layers = sum(shape.layer_experts[stage.first_layer : stage.last_layer])
        self.dense_layers = stage.num_layers - self.moe_layers

    def token_operators(self) -> list[Operator]:
        shape, layers = self.shape, self.stage.num_layers
        result = [*self._outer(), *self._projections(layers), *self._elementwise(layers)]
        if self.dense_layers:
            result += self.make.mlp(
                "mlp", self.dense_layers, shape.hidden_size, shape.intermediate_size / self.ranks,
                gated=shape.gated_mlp,
            )  # fmt: skip
        if self.moe_layers:
            result += list_expert_operators(shape, self.make, self.moe_layers, self.parallelism)
        if self.ranks > 1:
            # After the attention's output and after the MLP (Megatron-LM); the embedding is sharded too.
            # Where the experts' sums are scattered, that stands in place of the second one; where attention
            # and MLP are side by side their sum is reduced (`reduce_row_parallel_results`, vLLM's falcon.py).
            after_mlp = self.dense_layers if self.parallelism.data_parallel_size > 1 else layers
            if shape.parallel_blocks:
                after_mlp = 0
            count = layers + after_mlp + self.stage.has_embedding
            reduced = self.make.collective(
                "all_reduce", OperatorFamily.ALL_REDUCE, count, shape.hidden_size, self.ranks
            )
            result.append(reduced)
        return result

    def sample_operators(self) -> list[Operator]:
        vocab, plain = self.shape.padded_vocab(), self.precision.activation
        result = [self.make.gemm("lm_head", 1, vocab / self.ranks, self.shape.hidden_size, quantized=False)]
        if self.ranks > 1:
            result.append(
                self.make.collective("logits_all_gather", OperatorFamily.ALL_GATHER, 1, vocab, self.ranks)
            )
        widen = vocab * (self.act_bytes + _FP32_BYTES)
        choose = vocab * _FP32_BYTES
        for name, count, moved in (("logits_to_float32", 1, widen), ("sampling", _SAMPLER_PASSES, choose)):
            result.append(
                Operator(name, OperatorFamily.ELEMENTWISE, count, 0.0, moved, 0.0, plain, width=vocab)
            )
        return result

    def attention(self) -> list[AttentionOperator]:
        """One entry a window size, full attention (0) first."""
        shape = self.shape
        heads = shape.num_heads // self.ranks
        kv_bytes = float(shape.kv_bytes_per_token_layer(self.precision.kv_cache, self.ranks))
        kv_heads, head_dim = shape.kv_heads_per_rank(self.ranks), shape.head_dim
        if shape.is_mla:
            # Prefill expands the latent to full heads; decode absorbs the expansion into the query and
            # works on the latent (DeepSeek-V2, arXiv:2405.04434, section 2.1; vllm MLACommonImpl).
            qk_dim = shape.qk_nope_head_dim + shape.qk_rope_head_dim
            prefill = 2.0 * heads * (qk_dim + shape.v_head_dim)
            decode = 2.0 * heads * (2 * shape.kv_lora_rank + shape.qk_rope_head_dim)
            history = 2.0 * shape.kv_lora_rank * heads * (shape.qk_nope_head_dim + shape.v_head_dim)
            query_bytes = heads * (qk_dim + shape.v_head_dim) * self.act_bytes
            kv_heads, head_dim = 1, qk_dim
        else:
            prefill = decode = 4.0 * heads * shape.head_dim
            history = 0.0
            query_bytes = 2 * heads * shape.head_dim * self.act_bytes
        sharing = self.parallelism.decode_context_parallel_size
        windows = Counter(shape.layer_windows[self.stage.first_layer : self.stage.last_layer])
        return [
            AttentionOperator(
                layers, window, prefill, decode, history, kv_bytes / sharing, query_bytes,
                self.precision.attention_dtype, self.precision.kv_cache, heads, kv_heads, head_dim,
                shape.kv_lora_rank, shape.qk_rope_head_dim, shape.v_head_dim, sharing,
                self.parallelism.cp_kv_cache_interleave_size,
            )
            for window, layers in sorted(windows.items())
        ]  # fmt: skip

    def _projections(self, layers: int) -> list[Operator]:
        shape, hidden, ranks, make = self.shape, self.shape.hidden_size, self.ranks, self.make
        heads = shape.num_heads / ranks
        if not shape.is_mla:
            width = (heads + 2 * shape.kv_heads_per_rank(ranks)) * shape.head_dim
            return [
                *make.quantized_gemm("qkv", layers, width, hidden, after="norm"),
                *make.quantized_gemm("attention_output", layers, hidden, heads * shape.head_dim),
            ]
        qk_dim = shape.qk_nope_head_dim + shape.qk_rope_head_dim
        latent = shape.kv_lora_rank + shape.qk_rope_head_dim
        query = (
            # The down projections of query and KV are one GEMM, held whole by every rank.
            [
                *make.quantized_gemm("latent_down", layers, shape.q_lora_rank + latent, hidden, after="norm"),
                *make.quantized_gemm("query_up", layers, heads * qk_dim, shape.q_lora_rank, after="norm"),
            ]
            if shape.q_lora_rank
            else [
                *make.quantized_gemm("query", layers, heads * qk_dim, hidden, after="norm"),
                make.gemm("latent_down", layers, latent, hidden),
            ]
        )
        # Expansion of the new tokens' latent; absorbed into query and output in decode, at the same cost.
        # vLLM holds these two in the activations' dtype (MLACommonImpl.process_weights_after_loading).
        expand = heads * (shape.qk_nope_head_dim + shape.v_head_dim)
        return [
            *query,
            make.gemm("latent_up", layers, expand, shape.kv_lora_rank, quantized=False),
            *make.quantized_gemm("attention_output", layers, hidden, heads * shape.v_head_dim),
        ]

    def _elementwise(self, layers: int) -> list[Operator]:
        shape, make = self.shape, self.make
        hidden = shape.hidden_size
        kv_elements = shape.kv_bytes_per_token_layer("bfloat16", self.ranks) / 2
        if shape.is_mla:
            qk_dim = shape.qk_nope_head_dim + shape.qk_rope_head_dim
            query_elements = shape.num_heads / self.ranks * qk_dim
            rotated = (shape.num_heads / self.ranks + 1) * shape.qk_rope_head_dim
        else:
            query_elements = shape.num_heads / self.ranks * shape.head_dim
            rotated = query_elements + kv_elements / 2
        fused, head = min(shape.norms_per_layer, 2), shape.head_dim
        result = [
            # Two norms are fused with the residual addition: read and write both streams.
            make.elementwise("norm", layers * fused, 4 * hidden, hidden),
            make.elementwise("plain_norm", layers * (shape.norms_per_layer - fused), 2 * hidden, hidden),
            make.elementwise("qk_norm", 2 * layers * shape.qk_norm, query_elements + kv_elements / 2, head),
            make.elementwise("write_kv", layers, 2 * kv_elements, kv_elements),
        ]
        if shape.is_mla:
            latent = shape.kv_lora_rank + shape.q_lora_rank
            result.append(make.elementwise("latent_norm", layers, 2 * latent, latent))
        if not shape.learned_positions and not shape.embedding_norm:  # OPT; BLOOM has ALiBi
            result.append(make.elementwise("rope", layers, 2 * rotated, rotated))
        return result

    def _outer(self) -> list[Operator]:
        hidden, make, stage = self.shape.hidden_size, self.make, self.stage
        reads = 2 * hidden * (2 if self.shape.learned_positions else 1)
        normed = int(stage.has_embedding and self.shape.embedding_norm)
        return [
            make.elementwise("embedding", int(stage.has_embedding), reads, hidden),
            make.elementwise("embedding_norm", normed, 2 * hidden, hidden),
            make.elementwise("final_norm", int(stage.has_lm_head), 4 * hidden, hidden),
        ]
