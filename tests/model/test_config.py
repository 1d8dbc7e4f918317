"""Reading a Hugging Face config.json: what vLLM derives from it, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from simserve.errors import InputError
from simserve.model.config import read_config

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "max_position_embeddings": 4096,
}


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        (None, 4096),
        ({"rope_type": "linear", "factor": 4.0}, 16384),
        ({"type": "dynamic", "factor": 2.0}, 8192),
        ({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 512}, 4096),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}, 8192),
    ],
)
def test_max_model_len_follows_rope_scaling(scaling: dict[str, Any] | None, expected: int) -> None:
    assert read_config({**LLAMA, "rope_scaling": scaling}).max_position_embeddings == expected


def test_explicit_head_dim_wins() -> None:
    assert read_config(LLAMA).head_dim == 16
    assert read_config({**LLAMA, "head_dim": 32}).head_dim == 32


def test_multimodal_config_is_read_from_its_text_part() -> None:
    text = {key: value for key, value in LLAMA.items() if key != "architectures"}
    outer = {
        "architectures": ["LlavaForConditionalGeneration"],
        "torch_dtype": "float16",
        "text_config": text,
    }
    shape = read_config(outer)
    assert (shape.num_layers, shape.dtype) == (4, "float16")


def test_window_only_where_it_is_used() -> None:
    qwen = {**LLAMA, "model_type": "qwen2", "sliding_window": 100, "max_window_layers": 3}
    assert read_config({**qwen, "use_sliding_window": False}).layer_windows == (0, 0, 0, 0)
    assert read_config({**qwen, "use_sliding_window": True}).layer_windows == (0, 0, 0, 100)


def test_experts_by_layer() -> None:
    moe = {**LLAMA, "model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 2}
    moe["moe_intermediate_size"] = 32
    assert read_config({**moe, "decoder_sparse_step": 2}).layer_experts == (False, True, False, True)
    assert read_config({**moe, "mlp_only_layers": [0]}).layer_experts == (False, True, True, True)


@pytest.mark.parametrize(
    ("quantization", "expected"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8_block"),
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "awq", "bits": 4}, "awq"),
        ({"quant_method": "compressed-tensors", "format": "float-quantized"}, "fp8"),
    ],
)
def test_published_quantization(quantization: dict[str, Any], expected: str) -> None:
    assert read_config({**LLAMA, "quantization_config": quantization}).quantization == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": None}, "no 'hidden_size'"),
        ({"num_hidden_layers": "four"}, "num_hidden_layers: expected a positive integer, got 'four'"),
        ({"vocab_size": -1}, "vocab_size: expected a positive integer, got -1"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings: expected true or false"),
        ({"torch_dtype": "bfloat17"}, "torch_dtype: unknown dtype 'bfloat17'; did you mean 'bfloat16'"),
        ({"ssm_cfg": {}}, "recurrent layers"),
        ({"num_experts": 8, "num_experts_per_tok": 9}, "num_experts_per_tok: expected 1 to 8, got 9"),
        ({"quantization_config": {"quant_method": "magic"}}, "unknown quant_method 'magic'"),
    ],
)
def test_wrong_config_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_config({**LLAMA, **change})
    assert message in str(caught.value)


def test_broken_file_names_its_place(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"hidden_size": 64,\n "oops" 3}')
    with pytest.raises(InputError, match=r"config\.json:2:9: not valid JSON"):
        read_config(path)
    path.write_text("[1, 2]")
    with pytest.raises(InputError, match="expected a JSON object"):
        read_config(path)
    with pytest.raises(InputError, match="cannot read the file"):
        read_config(tmp_path / "missing.json")


def test_name_is_the_folder_of_a_config_json(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA))
    assert read_config(folder / "config.json").name == "my-model"


def test_an_unknown_model_type_is_kept_for_a_warning() -> None:
    assert read_config({**LLAMA, "model_type": "foo"}).unknown_type == "foo"
    assert read_config(LLAMA).unknown_type == ""
