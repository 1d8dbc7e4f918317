"""What a model type implies that its config.json does not say: norms, biases, tying, the kind of MLP.

Each entry restates the architecture's module in Hugging Face `transformers`
(`models/<model_type>/modeling_*.py` and its configuration's defaults).
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Family:
    """Traits of one `model_type`.

    Attributes:
        tied: Default of `tie_word_embeddings`.
        gated_mlp: Gate, up and down, or up and down only.
        norms_per_layer, qk_norm, qk_norm_spans_heads, norm_bias, embedding_norm, alibi: See `ModelShape`.
        parallel_blocks: Default of `parallel_attn`, see `ModelShape`.
        qkv_bias: Default for the bias of query, key and value.
        output_bias: Bias of the attention's output; None: as the config's `attention_bias`.
        mlp_bias: Default for the biases of the MLP.
        attention_sinks, router_bias, expert_bias: See `ModelShape`.
        position_offset: Extra rows of the learned position embedding; None: no such embedding.
        intermediate_key: The config's key for the width of the MLP.
        intermediate_multiple: Width of the MLP in hidden sizes where the config does not say; 0: it must.
    """

    tied: bool = False
    gated_mlp: bool = True
    norms_per_layer: int = 2
    qk_norm: bool = False
    qk_norm_spans_heads: bool = False
    norm_bias: bool = False
    embedding_norm: bool = False
    alibi: bool = False
    parallel_blocks: bool = False
    qkv_bias: bool = False
    output_bias: bool | None = None
    mlp_bias: bool = False
    attention_sinks: bool = False
    router_bias: bool = False
    expert_bias: bool = False
    position_offset: int | None = None
    intermediate_key: str = "intermediate_size"
    intermediate_multiple: int = 0


LLAMA_LIKE = Family()
_QWEN2 = Family(qkv_bias=True, output_bias=False)
_QWEN3 = Family(qk_norm=True)
_GEMMA = Family(tied=True)
_DEEPSEEK_V3 = Family(router_bias=True)
_PLAIN = Family(tied=True, gated_mlp=False, norm_bias=True, qkv_bias=True, output_bias=True, mlp_bias=True)

FAMILIES: dict[str, Family] = {
    "llama": LLAMA_LIKE,
    "mistral": LLAMA_LIKE,
    "mixtral": LLAMA_LIKE,
    "phi3": LLAMA_LIKE,
    "qwen2": _QWEN2,
    "qwen2_moe": _QWEN2,
    "qwen3": _QWEN3,
    "qwen3_moe": _QWEN3,
    "gemma": _GEMMA,
    "gemma2": replace(_GEMMA, norms_per_layer=4),
    "gemma3": replace(_GEMMA, norms_per_layer=4, qk_norm=True),
    "gemma3_text": replace(_GEMMA, norms_per_layer=4, qk_norm=True),
    "gpt_oss": Family(qkv_bias=True, attention_sinks=True, router_bias=True, expert_bias=True),
    "deepseek_v2": LLAMA_LIKE,
    # The bias is e_score_correction_bias, which balances the load of the experts.
    "deepseek_v3": _DEEPSEEK_V3,
    "kimi_k2": _DEEPSEEK_V3,
    "minimax_m2": Family(qk_norm=True, qk_norm_spans_heads=True, router_bias=True),
    # Positions start at 2 (OPTLearnedPositionalEmbedding.offset).
    "opt": replace(_PLAIN, position_offset=2, intermediate_key="ffn_dim"),
    "falcon": Family(
        tied=True,
        gated_mlp=False,
        norm_bias=True,
        parallel_blocks=True,
        intermediate_key="ffn_hidden_size",
        intermediate_multiple=4,
    ),
    "bloom": replace(
        _PLAIN, embedding_norm=True, alibi=True, intermediate_key="n_inner", intermediate_multiple=4
    ),
}
