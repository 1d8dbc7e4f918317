"""Reads a Hugging Face config.json into a `ModelShape`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simserve.errors import InputError, nearest
from simserve.model.dtype import normalise_dtype
from simserve.model.families import FAMILIES, LLAMA_LIKE, Family
from simserve.model.layers import expert_layers, max_model_len, window_layers
from simserve.model.shape import ModelShape

# What GPT-2's generation of configs, and Falcon's, call the same things.
_OLD_KEYS = {
    "hidden_size": ("n_embed", "n_embd"),
    "num_hidden_layers": ("n_layer",),
    "num_attention_heads": ("n_head",),
    "num_key_value_heads": ("num_kv_heads",),
}
# Keys of layers that are no attention: their state does not grow with the context.
_RECURRENT_KEYS = ("ssm_cfg", "mamba_d_state", "state_size", "linear_num_key_heads", "attn_layer_period")


def read_config(source: Mapping[str, Any] | str | Path, name: str | None = None) -> ModelShape:
    """Read a model's shape.

    Args:
        source: A config.json, or the mapping in it.
        name: The model's name; default: the file's stem, its folder for a `config.json`.

    Raises:
        InputError: If the file is no such config, a key is missing or wrong, or the model is no
            decoder-only transformer.
    """
    if isinstance(source, Mapping):
        return _Reader(source, None).shape(name or str(source.get("_name_or_path") or "model"))
    path = Path(source)
    label = path.parent.resolve().name if path.stem == "config" else path.stem
    return _Reader(load_json(path), str(path)).shape(name or label)


def load_json(path: Path) -> Mapping[str, Any]:
    """Read a JSON object from a file.

    Raises:
        InputError: If the file cannot be read or holds no JSON object; with line and column.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the file: {error.strerror}", file=str(path)) from error
    except UnicodeDecodeError as error:
        raise InputError("not a text file; expected a Hugging Face config.json", file=str(path)) from error
    except json.JSONDecodeError as error:
        raise InputError(
            f"not valid JSON: {error.msg}", file=str(path), line=error.lineno, column=error.colno
        ) from error
    if not isinstance(content, dict):
        raise InputError("expected a JSON object, as in a Hugging Face config.json", file=str(path))
    return content


class _Reader:
    """Reads one config; keeps the file's name for errors."""

    def __init__(self, config: Mapping[str, Any], file: str | None) -> None:
        # Multimodal configs hold the language model in text_config; the dtype may stand outside it.
        text = config.get("text_config")
        self.config: Mapping[str, Any] = {**config, **text} if isinstance(text, Mapping) else config
        self.file = file

    def shape(self, name: str) -> ModelShape:
        model_type = str(self.config.get("model_type", ""))
        self._refuse_recurrent(model_type)
        family = FAMILIES.get(model_type, LLAMA_LIKE)
        layers = self.integer("num_hidden_layers")
        hidden, heads = self.integer("hidden_size"), self.integer("num_attention_heads")
        attention_bias = self.flag("attention_bias", False)
        return ModelShape(
            name=name,
            architecture=self._architecture(model_type),
            num_layers=layers,
            hidden_size=hidden,
            num_heads=heads,
            num_kv_heads=self.integer("num_key_value_heads", heads),
            head_dim=self.integer("head_dim", hidden // heads),
            intermediate_size=self.integer(
                family.intermediate_key, family.intermediate_multiple * hidden or None
            ),
            vocab_size=self.integer("vocab_size"),
            tie_word_embeddings=self.flag("tie_word_embeddings", family.tied),
            gated_mlp=family.gated_mlp,
            max_position_embeddings=max_model_len(self.config, model_type),
            layer_windows=window_layers(self.config, model_type, layers),
            layer_experts=expert_layers(self.config, layers),
            norms_per_layer=family.norms_per_layer,
            qk_norm=family.qk_norm,
            qk_norm_spans_heads=family.qk_norm_spans_heads,
            norm_bias=family.norm_bias,
            parallel_blocks=self.flag("parallel_attn", family.parallel_blocks),
            embedding_norm=family.embedding_norm,
            alibi=family.alibi,
            qkv_bias=self.flag("attention_bias", family.qkv_bias),
            output_bias=attention_bias if family.output_bias is None else family.output_bias,
            mlp_bias=self.flag("mlp_bias", family.mlp_bias),
            attention_sinks=family.attention_sinks,
            learned_positions=self._learned_positions(family),
            dtype=self._dtype(),
            quantization=self._quantization(),
            unknown_type="" if model_type in FAMILIES else model_type or "none",
            **self._experts(family),
            **self._latent_attention(),
        )

    def integer(self, key: str, default: int | None = None) -> int:
        """Return a positive integer of the config.

        Raises:
            InputError: If it is missing without a default, or is no positive integer.
        """
        for candidate in (key, *_OLD_KEYS.get(key, ())):
            value = self.config.get(candidate)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise InputError(f"{candidate}: expected a positive integer, got {value!r}", file=self.file)
            if value > 0 or default is not None:
                return value
            raise InputError(f"{candidate}: expected a positive integer, got 0", file=self.file)
        if default is None:
            raise InputError(
                f"the config has no {key!r}{nearest(key, self.config)}; expected the config.json of a "
                "decoder-only transformer",
                file=self.file,
            )
        return default

    def flag(self, key: str, default: bool) -> bool:
        """Return a true or false of the config."""
        value = self.config.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise InputError(f"{key}: expected true or false, got {value!r}", file=self.file)
        return value

    def _refuse_recurrent(self, model_type: str) -> None:
        layer_types = self.config.get("layer_types") or ()
        if any(key in self.config for key in _RECURRENT_KEYS) or "linear_attention" in layer_types:
            raise InputError(
                f"model type {model_type!r} has recurrent layers; only attention layers can be simulated",
                file=self.file,
            )

    def _architecture(self, model_type: str) -> str:
        names = self.config.get("architectures")
        return str(names[0]) if isinstance(names, list) and names else model_type

    def _learned_positions(self, family: Family) -> int:
        if family.position_offset is None:
            return 0
        return self.integer("max_position_embeddings") + family.position_offset

    def _dtype(self) -> str:
        value = self.config.get("torch_dtype") or self.config.get("dtype") or "bfloat16"
        try:
            return normalise_dtype(str(value))
        except InputError as error:
            raise InputError(f"torch_dtype: {error.message}", file=self.file) from error

    def _quantization(self) -> str | None:
        quant = self.config.get("quantization_config")
        if not isinstance(quant, Mapping):
            return None
        method = str(quant.get("quant_method", "")).lower()
        if method == "fp8" and quant.get("weight_block_size"):
            return "fp8_block"
        if method == "compressed-tensors":
            if any("self_attn" in str(name) for name in quant.get("ignore") or ()):
                return "int4_experts"
            kinds = {"float-quantized": "fp8", "int-quantized": "int8", "pack-quantized": "gptq"}
            method = kinds.get(str(quant.get("format", "")), "compressed-tensors")
        if method in ("fp8", "mxfp4", "awq", "gptq", "nvfp4", "int8"):
            return method
        raise InputError(f"quantization_config: unknown quant_method {method!r}", file=self.file)

    def _experts(self, family: Family) -> dict[str, Any]:
        keys = ("num_experts", "num_local_experts", "n_routed_experts")
        num_experts = next((self.integer(key, 0) for key in keys if self.config.get(key)), 0)
        if not num_experts:
            return {}
        per_token = self.config.get("num_experts_per_tok") or self.config.get("experts_per_token")
        if not isinstance(per_token, int) or not 0 < per_token <= num_experts:
            message = f"num_experts_per_tok: expected 1 to {num_experts}, got {per_token!r}"
            raise InputError(message, file=self.file)
        width = self.integer("moe_intermediate_size", self.integer("intermediate_size"))
        shared = self.integer("shared_expert_intermediate_size", self.integer("n_shared_experts", 0) * width)
        return {
            "num_experts": num_experts,
            "experts_per_token": per_token,
            "moe_intermediate_size": width,
            "shared_expert_intermediate_size": shared,
            "shared_expert_gate": "shared_expert_intermediate_size" in self.config and shared > 0,
            "router_bias": family.router_bias,
            "expert_bias": family.expert_bias,
        }

    def _latent_attention(self) -> dict[str, Any]:
        if not self.config.get("kv_lora_rank"):
            return {}
        keys = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
        return {**{key: self.integer(key) for key in keys}, "q_lora_rank": self.integer("q_lora_rank", 0)}
