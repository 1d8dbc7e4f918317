"""The shape of a transformer: what the cost model and the memory plan need to know of a model.

`ModelShape` holds the dimensions, and counts from them parameters and KV bytes. It is read from a
Hugging Face config.json by `simserve.model.config.read_config`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from simserve.model.kv_format import kv_format

# vLLM pads the rows of embedding and LM head to a multiple of this (DEFAULT_VOCAB_PADDING_SIZE in
# vllm/model_executor/layers/vocab_parallel_embedding.py).
VOCAB_PADDING = 64


class ParameterCount(NamedTuple):
    """Parameters by family. `experts` are the routed ones; shared experts count as `mlp`."""

    embedding: int
    attention: int
    mlp: int
    experts: int
    router: int
    norms: int
    lm_head: int

    @property
    def total(self) -> int:
        """All parameters; a tied LM head counts 0."""
        return sum(self)


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Dimensions of a decoder-only transformer.

    Attributes:
        name: Catalog name or file stem.
        architecture: First entry of the config's `architectures` (or its model_type).
        num_layers, hidden_size, num_heads, num_kv_heads, head_dim: As in the config; head_dim explicit.
        intermediate_size: Width of the dense MLP.
        vocab_size: Rows of the embedding.
        tie_word_embeddings: The LM head shares the embedding's weights.
        gated_mlp: Gate, up and down projections (True) or up and down only.
        max_position_embeddings: The model's own `max_model_len`, RoPE scaling applied as vLLM does.
        layer_windows: Each layer's sliding window in tokens; 0 means full attention.
        layer_experts: For each layer, whether its MLP is a mixture of experts.
        num_experts, experts_per_token, moe_intermediate_size: Routed experts; 0 for a dense model.
        shared_expert_intermediate_size: Width of all shared experts together; 0 means none.
        shared_expert_gate: A learned gate of hidden_size weights on the shared expert (Qwen2-MoE).
        router_bias, expert_bias: Learned biases of router and experts.
        kv_lora_rank, q_lora_rank, qk_nope_head_dim, qk_rope_head_dim, v_head_dim: Multi-head latent
            attention (DeepSeek-V2, arXiv:2405.04434); kv_lora_rank 0 means ordinary attention.
        norms_per_layer: Norms of width hidden_size in a layer.
        qk_norm: A norm of width head_dim on queries and keys.
        qk_norm_spans_heads: That norm is one over all heads together (MiniMax-M2), with as many weights.
        norm_bias: Norms have a bias (LayerNorm) and not only a weight (RMSNorm).
        embedding_norm: A norm after the embedding (BLOOM).
        qkv_bias, output_bias, mlp_bias: Biases of the projections.
        attention_sinks: A learned sink logit a head (gpt-oss).
        learned_positions: Rows of a position embedding (OPT); 0 for RoPE and ALiBi.
        alibi: Positions enter attention as a bias (BLOOM), and there is no RoPE.
        parallel_blocks: Attention and MLP of a layer work on the same input, and their outputs are added
            (Falcon): tensor-parallel ranks reduce the sum once.
        dtype: Dtype of the weights as published.
        quantization: Format in which the weights are published (`simserve.model.dtype.WEIGHT_FORMATS`).
        unknown_type: The config's `model_type` if that is none that is known, so that its traits are assumed.
    """

    name: str
    architecture: str
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    tie_word_embeddings: bool
    gated_mlp: bool
    max_position_embeddings: int
    layer_windows: tuple[int, ...]
    layer_experts: tuple[bool, ...]
    num_experts: int = 0
    experts_per_token: int = 0
    moe_intermediate_size: int = 0
    shared_expert_intermediate_size: int = 0
    shared_expert_gate: bool = False
    router_bias: bool = False
    expert_bias: bool = False
    kv_lora_rank: int = 0
    q_lora_rank: int = 0
    qk_nope_head_dim: int = 0
    qk_rope_head_dim: int = 0
    v_head_dim: int = 0
    norms_per_layer: int = 2
    qk_norm: bool = False
    qk_norm_spans_heads: bool = False
    norm_bias: bool = False
    embedding_norm: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    attention_sinks: bool = False
    learned_positions: int = 0
    alibi: bool = False
    parallel_blocks: bool = False
    dtype: str = "bfloat16"
    quantization: str | None = None
    unknown_type: str = ""

    @property
    def is_mla(self) -> bool:
        """Whether attention is multi-head latent attention."""
        return self.kv_lora_rank > 0

    @property
    def is_moe(self) -> bool:
        """Whether any layer is a mixture of experts."""
        return any(self.layer_experts)

    @property
    def sliding_window(self) -> int | None:
        """The window of the layers that have one, or None."""
        return next((window for window in self.layer_windows if window), None)

    @property
    def num_full_layers(self) -> int:
        """Layers that attend to the whole context."""
        return self.layer_windows.count(0)

    @property
    def num_window_layers(self) -> int:
        """Layers with a sliding window."""
        return self.num_layers - self.num_full_layers

    @property
    def rope_dim(self) -> int:
        """Width of the rotary embedding of a head; 0 without RoPE."""
        if self.learned_positions or self.alibi:
            return 0
        return self.qk_rope_head_dim if self.is_mla else self.head_dim

    def padded_vocab(self) -> int:
        """Rows of embedding and LM head as vLLM allocates them."""
        return -(-self.vocab_size // VOCAB_PADDING) * VOCAB_PADDING

    def kv_heads_per_rank(self, tensor_parallel_size: int = 1) -> int:
        """KV heads on one rank: sharded, then replicated when there are fewer heads than ranks (as vLLM)."""
        return max(1, self.num_kv_heads // tensor_parallel_size)

    def kv_bytes_per_token_layer(self, kv_dtype: str = "bfloat16", tensor_parallel_size: int = 1) -> int:
        """Bytes of KV cache that one token takes in one layer of one rank.

        Keys and values of every KV head, with their scales; for MLA the latent and the RoPE part, held by
        every rank.
        """
        stored = kv_format(kv_dtype)
        if self.is_mla:
            return int(stored.vector_bytes(self.kv_lora_rank + self.qk_rope_head_dim))
        return int(2 * self.kv_heads_per_rank(tensor_parallel_size) * stored.vector_bytes(self.head_dim))

    def kv_bytes_per_token(self, kv_dtype: str = "bfloat16", tensor_parallel_size: int = 1) -> int:
        """Bytes of KV cache that one token takes on one rank that holds every layer."""
        return self.num_layers * self.kv_bytes_per_token_layer(kv_dtype, tensor_parallel_size)

    def attention_parameters(self) -> int:
        """Parameters of one layer's attention projections, their biases and sinks; no norms."""
        hidden, heads = self.hidden_size, self.num_heads
        if self.is_mla:
            qk_dim = self.qk_nope_head_dim + self.qk_rope_head_dim
            query = hidden * heads * qk_dim
            if self.q_lora_rank:
                query = self.q_lora_rank * (
                    hidden + 1 + heads * qk_dim
                )  # + 1: the norm of the query's latent
            latent = hidden * (self.kv_lora_rank + self.qk_rope_head_dim) + self.kv_lora_rank
            expand = self.kv_lora_rank * heads * (self.qk_nope_head_dim + self.v_head_dim)
            return query + latent + expand + heads * self.v_head_dim * hidden
        qkv_width = (heads + 2 * self.num_kv_heads) * self.head_dim
        weights = hidden * qkv_width + heads * self.head_dim * hidden
        biases = qkv_width * self.qkv_bias + hidden * self.output_bias
        return weights + biases + heads * self.attention_sinks

    def mlp_parameters(self, intermediate_size: int | None = None) -> int:
        """Parameters of a dense MLP of the given width (default: the model's own), biases included."""
        width = self.intermediate_size if intermediate_size is None else intermediate_size
        inputs = 2 if self.gated_mlp else 1
        biases = (inputs * width + self.hidden_size) * self.mlp_bias
        return (inputs + 1) * self.hidden_size * width + biases

    def expert_parameters(self) -> int:
        """Parameters of one routed expert."""
        width = self.moe_intermediate_size
        return 3 * self.hidden_size * width + (2 * width + self.hidden_size) * self.expert_bias

    def shared_parameters(self) -> int:
        """Parameters of one layer's shared experts, their gate included."""
        shared = 3 * self.hidden_size * self.shared_expert_intermediate_size
        return shared + self.hidden_size * self.shared_expert_gate

    def router_parameters(self) -> int:
        """Parameters of one layer's router."""
        return self.num_experts * (self.hidden_size + self.router_bias)

    def norm_parameters(self) -> int:
        """Parameters of one layer's norms."""
        heads = self.num_heads + self.num_kv_heads if self.qk_norm_spans_heads else 2
        width = self.norms_per_layer * self.hidden_size + heads * self.head_dim * self.qk_norm
        return width * (1 + self.norm_bias)

    def parameters(self) -> ParameterCount:
        """Count all parameters, by family."""
        moe_layers = sum(self.layer_experts)
        dense_layers = self.num_layers - moe_layers
        outer_norms = (1 + self.embedding_norm) * self.hidden_size * (1 + self.norm_bias)
        return ParameterCount(
            embedding=(self.vocab_size + self.learned_positions) * self.hidden_size,
            attention=self.num_layers * self.attention_parameters(),
            mlp=dense_layers * self.mlp_parameters() + moe_layers * self.shared_parameters(),
            experts=moe_layers * self.num_experts * self.expert_parameters(),
            router=moe_layers * self.router_parameters(),
            norms=self.num_layers * self.norm_parameters() + outer_norms,
            lm_head=0 if self.tie_word_embeddings else self.vocab_size * self.hidden_size,
        )

    def active_parameters(self) -> int:
        """Parameters that one token uses: all but the experts that it is not routed to."""
        idle = self.num_experts - self.experts_per_token
        return self.parameters().total - sum(self.layer_experts) * idle * self.expert_parameters()
