"""Pipeline stages and the weights of their ranks."""

from __future__ import annotations

import pytest

from simserve.errors import InputError
from simserve.model.stage import split_stages, stage_weight_bytes
from simserve.scenario.catalog import load_model
from simserve.scenario.known_names import model_names


@pytest.mark.parametrize(
    ("layers", "stages", "counts"),
    # vLLM: left-over layers go to the stages before the last, from the back.
    [(32, 1, [32]), (32, 4, [8, 8, 8, 8]), (33, 4, [8, 8, 9, 8]), (35, 4, [9, 9, 9, 8]), (5, 5, [1] * 5)],
)
def test_layers_are_split_as_vllm_does(layers: int, stages: int, counts: list[int]) -> None:
    split = split_stages(layers, stages)
    assert [stage.num_layers for stage in split] == counts
    assert [stage.has_embedding for stage in split] == [True] + [False] * (stages - 1)
    assert [stage.has_lm_head for stage in split] == [False] * (stages - 1) + [True]
    assert split[-1].last_layer == layers


@pytest.mark.parametrize("stages", [0, 33])
def test_impossible_split_is_refused(stages: int) -> None:
    with pytest.raises(InputError, match="pipeline_parallel_size"):
        split_stages(32, stages)


@pytest.mark.parametrize("name", model_names())
def test_one_rank_holds_every_parameter(name: str) -> None:
    shape = load_model(name)
    whole = split_stages(shape.num_layers, 1)[0]
    weights = stage_weight_bytes(shape, whole, dtype="float32", quantization=None)
    padding = (shape.padded_vocab() - shape.vocab_size) * shape.hidden_size
    padding *= 1 if shape.tie_word_embeddings else 2
    if shape.quantization is None:
        assert weights == 4 * (shape.parameters().total + padding)
    else:
        assert weights < 4 * shape.parameters().total


@pytest.mark.parametrize("name", ["llama-3.1-70b", "mixtral-8x7b", "gemma-2-27b", "opt-13b"])
def test_stages_add_up_and_ranks_shrink(name: str) -> None:
    shape = load_model(name)
    whole = stage_weight_bytes(shape, split_stages(shape.num_layers, 1)[0])
    parts = sum(stage_weight_bytes(shape, stage) for stage in split_stages(shape.num_layers, 3))
    # A tied head is held twice once embedding and head stand on two stages.
    twice = 2 * shape.padded_vocab() * shape.hidden_size if shape.tie_word_embeddings else 0
    assert parts == whole + twice
    sharded = stage_weight_bytes(shape, split_stages(shape.num_layers, 1)[0], tensor_parallel_size=4)
    assert whole / 4 <= sharded <= 1.01 * whole / 4


def test_kv_heads_are_replicated_beyond_their_number() -> None:
    shape = load_model("qwen2.5-7b")  # 4 KV heads
    whole = split_stages(shape.num_layers, 1)[0]
    four = stage_weight_bytes(shape, whole, tensor_parallel_size=4)
    eight = stage_weight_bytes(shape, whole, tensor_parallel_size=8)
    kv_head = 2 * shape.head_dim * (shape.hidden_size + 1) * shape.num_layers * 2
    norms = shape.parameters().norms * 2
    assert eight == pytest.approx((four - norms - kv_head) / 2 + kv_head + norms, rel=1e-6)


def test_quantized_weights() -> None:
    shape = load_model("llama-3.1-8b")
    whole = split_stages(shape.num_layers, 1)[0]
    plain, fp8 = stage_weight_bytes(shape, whole), stage_weight_bytes(shape, whole, quantization="fp8")
    parameters = shape.parameters()
    assert plain - fp8 == parameters.attention + parameters.mlp
    # gpt-oss: the size of the checkpoints on their model pages. DeepSeek-V3: 671.0 B parameters of one byte,
    # and a second byte for the 1.9 B of embedding and head.
    for name, gigabytes in [("gpt-oss-20b", 13.76), ("gpt-oss-120b", 65.2), ("deepseek-v3", 673)]:
        other = load_model(name)
        stored = stage_weight_bytes(other, split_stages(other.num_layers, 1)[0])
        assert stored == pytest.approx(gigabytes * 1e9, rel=0.01)
