"""Parameter counts and KV bytes of the catalog's models against published figures."""

from __future__ import annotations

import json

import pytest

from simserve.data_files import data_folder
from simserve.scenario.catalog import load_model
from simserve.scenario.known_names import model_names

# Totals that the model cards state (safetensors metadata on their pages), one a kind of architecture.
PUBLISHED = {
    "llama-2-7b": 6_738_415_616,
    "llama-2-70b": 68_976_648_192,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "qwen2.5-7b": 7_615_616_512,
    "qwen3-14b": 14_768_307_200,
    "qwen3-30b-a3b": 30_532_122_624,
    "mistral-7b-v0.1": 7_241_732_096,
    "mistral-nemo-12b": 12_247_782_400,
    "mixtral-8x7b": 46_702_792_704,
    "codellama-34b": 33_743_970_304,
    "phi-3-mini": 3_821_079_552,
    "gemma-2-9b": 9_241_705_984,
    "gemma-3-1b": 999_885_952,
    "gpt-oss-20b": 20_914_757_184,
    "gpt-oss-120b": 116_829_156_672,
    "deepseek-v3": 671_026_419_200,
    "kimi-k2.5": 1_026_408_232_448,
    "minimax-m2.5": 228_689_764_864,
    "deepseek-v2-lite": 15_706_484_224,
    "opt-125m": 125_239_296,
    "bloom-176b": 176_247_271_424,
}


@pytest.mark.parametrize(("name", "total"), PUBLISHED.items())
def test_total_is_the_published_one(name: str, total: int) -> None:
    assert load_model(name).parameters().total == total


@pytest.mark.parametrize("name", model_names())
def test_every_shipped_model_states_and_has_its_parameters(name: str) -> None:
    config = json.loads((data_folder("models") / f"{name}.json").read_text())
    assert config["_source"]
    assert load_model(name).parameters().total == config["_parameters"]


# Rounded figures of the model cards.
@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("qwen3-30b-a3b", 3.3),
        ("qwen3-235b-a22b", 22),
        ("deepseek-v3", 37),
        ("mixtral-8x7b", 12.9),
    ],
)
def test_active_parameters_of_experts(name: str, billions: float) -> None:
    assert load_model(name).active_parameters() == pytest.approx(billions * 1e9, rel=0.025)


def test_dense_model_uses_every_parameter() -> None:
    shape = load_model("llama-3.1-8b")
    assert shape.active_parameters() == shape.parameters().total
    assert not shape.is_moe


@pytest.mark.parametrize(
    ("name", "kv_dtype", "ranks", "expected"),
    [
        ("llama-3.1-8b", "bfloat16", 1, 32 * 2 * 8 * 128 * 2),
        ("llama-3.1-8b", "fp8", 1, 32 * 2 * 8 * 128),
        ("llama-2-70b", "float16", 4, 80 * 2 * 2 * 128 * 2),
        # More ranks than KV heads: every rank keeps one whole head.
        ("qwen2.5-7b", "bfloat16", 7, 28 * 2 * 1 * 128 * 2),
        ("llama-2-70b", "float16", 16, 80 * 2 * 1 * 128 * 2),
        # MLA: 512 + 64 elements a layer, on every rank.
        ("deepseek-v3", "bfloat16", 8, 61 * 576 * 2),
    ],
)
def test_kv_bytes_of_a_token(name: str, kv_dtype: str, ranks: int, expected: int) -> None:
    assert load_model(name).kv_bytes_per_token(kv_dtype, ranks) == expected


def test_windows_of_layers() -> None:
    gemma = load_model("gemma-3-27b")
    assert (gemma.num_full_layers, gemma.num_window_layers, gemma.sliding_window) == (10, 52, 1024)
    assert gemma.layer_windows[:7] == (1024, 1024, 1024, 1024, 1024, 0, 1024)
    oss = load_model("gpt-oss-20b")
    assert oss.layer_windows[:2] == (128, 0)
    assert load_model("mistral-7b-v0.1").num_full_layers == 0
    assert load_model("qwen3-14b").sliding_window is None


def test_dense_layers_of_deepseek() -> None:
    shape = load_model("deepseek-v3")
    assert shape.layer_experts == (False,) * 3 + (True,) * 58
    assert shape.is_mla


def test_vocabulary_is_padded_to_64_rows() -> None:
    assert load_model("bloom-7b1").padded_vocab() == 250_880
    assert load_model("codellama-7b").padded_vocab() == 32_064  # 32,016 rows
