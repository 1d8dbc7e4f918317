"""What differs from layer to layer in a config.json (windows, experts), and how long a context may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simserve.errors import InputError

# Keys that state a context length; vLLM takes the smallest (_get_and_verify_max_len in
# vllm/config/model.py), and 2048 where there is none.
_LENGTH_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length")
_LENGTH_DEFAULT = 2048
# RoPE scalings whose max_position_embeddings already counts the factor (same function in vLLM).
_ROPE_ALREADY_SCALED = ("su", "longrope", "llama3", "default", "mrope")
# Every how many layers attention is full where neither layer_types nor sliding_window_pattern says:
# Gemma 2 alternates (arXiv:2408.00118, section 2), Gemma 3 has 5 local layers a global one
# (arXiv:2503.19786, section 2), gpt-oss alternates (arXiv:2508.10925, section 2).
_FULL_EVERY = {"gemma2": 2, "gemma3": 6, "gemma3_text": 6, "gpt_oss": 2}


def max_model_len(config: Mapping[str, Any], model_type: str) -> int:
    """Return the longest context of the model as vLLM derives it, RoPE scaling included."""
    lengths = [config[key] for key in _LENGTH_KEYS if isinstance(config.get(key), int)]
    length = min(lengths, default=_LENGTH_DEFAULT)
    scaling = config.get("rope_scaling") or config.get("rope_parameters")
    # Gemma 3's config states the scaled length (vLLM leaves it out too).
    if not isinstance(scaling, Mapping) or "gemma3" in model_type:
        return int(length)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind in _ROPE_ALREADY_SCALED:
        return int(length)
    if kind == "yarn":
        length = scaling.get("original_max_position_embeddings", length)
    return int(length * float(scaling.get("factor", 1.0)))


def window_layers(config: Mapping[str, Any], model_type: str, num_layers: int) -> tuple[int, ...]:
    """Return each layer's sliding window in tokens, 0 where attention is full.

    Raises:
        InputError: If `layer_types` does not name every layer.
    """
    window = config.get("sliding_window")
    if not isinstance(window, int) or window <= 0 or config.get("use_sliding_window") is False:
        return (0,) * num_layers
    types = config.get("layer_types")
    if isinstance(types, list):
        if len(types) != num_layers:
            raise InputError(f"layer_types names {len(types)} layers, the model has {num_layers}")
        return tuple(window if kind == "sliding_attention" else 0 for kind in types)
    every = config.get("sliding_window_pattern") or _FULL_EVERY.get(model_type)
    if isinstance(every, int) and every > 0:
        return tuple(window if (layer + 1) % every else 0 for layer in range(num_layers))
    # Qwen2: the first max_window_layers layers are full.
    first = config.get("max_window_layers", 0) if config.get("use_sliding_window") else 0
    return tuple(window if layer >= first else 0 for layer in range(num_layers))


def expert_layers(config: Mapping[str, Any], num_layers: int) -> tuple[bool, ...]:
    """Return for each layer whether its MLP is a mixture of experts."""
    if not any(config.get(key) for key in ("num_experts", "num_local_experts", "n_routed_experts")):
        return (False,) * num_layers
    first = int(config.get("first_k_dense_replace") or 0)
    every = int(config.get("moe_layer_freq") or 1)
    sparse_step = int(config.get("decoder_sparse_step") or 1)
    dense = set(config.get("mlp_only_layers") or ())
    return tuple(
        layer >= first and layer % every == 0 and layer not in dense and (layer + 1) % sparse_step == 0
        for layer in range(num_layers)
    )
