"""Operators against parameter counts, brute force and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simserve.model.operators import ExpertWeights, StageOperators, attended_keys, attended_pairs
from simserve.model.precision import resolve_precision
from simserve.model.shape import ModelShape
from simserve.model.stage import Stage, split_stages, stage_weight_bytes
from simserve.model.stage_operators import list_operators
from simserve.scenario.catalog import load_model
from simserve.scenario.known_names import model_names


def whole(shape: ModelShape) -> Stage:
    return split_stages(shape.num_layers, 1)[0]


def operators(
    shape: ModelShape, tp: int = 1, quantization: str | None = None, kv_cache_dtype: str | None = None
) -> StageOperators:
    precision = resolve_precision(shape, quantization=quantization, kv_cache_dtype=kv_cache_dtype)
    return list_operators(shape, whole(shape), precision, tp)


def weight_bytes(listed: StageOperators) -> float:
    total = 0.0
    for operator in (*listed.token_operators, *listed.sample_operators):
        experts = operator.experts
        per_launch = experts.num_experts * experts.bytes_an_expert if experts else operator.fixed_bytes
        total += operator.count * per_launch
    return total


@pytest.mark.parametrize("name", model_names())
def test_every_weight_matrix_is_read_once_a_step(name: str) -> None:
    """The operators' weights are the model's, but for what no GEMM reads: embedding rows, norms, biases."""
    shape = load_model(name)
    rows = shape.learned_positions + (0 if shape.tie_word_embeddings else shape.vocab_size)
    read = weight_bytes(operators(shape))
    held = stage_weight_bytes(shape, whole(shape))
    assert read == pytest.approx(held - 2 * rows * shape.hidden_size, rel=6e-3)


@pytest.mark.parametrize("name", ["llama-3.1-8b", "mixtral-8x7b", "deepseek-v3", "gpt-oss-20b", "opt-13b"])
def test_a_token_costs_two_flops_a_parameter_it_meets(name: str) -> None:
    shape = load_model(name)
    one = np.array([1.0])
    listed = operators(shape)
    flops = sum(
        operator.count * float(operator.flops(one)[0])
        for operator in (*listed.token_operators, *listed.sample_operators)
    )
    met = shape.active_parameters() - shape.parameters().embedding * (0 if shape.tie_word_embeddings else 1)
    assert flops == pytest.approx(2 * met, rel=6e-3)


@pytest.mark.parametrize("name", ["llama-3.1-70b", "mixtral-8x7b", "qwen3-235b-a22b"])
def test_ranks_share_the_gemms(name: str) -> None:
    shape = load_model(name)
    rows = np.array([512.0])

    def gemm_flops(tp: int) -> float:
        return sum(op.count * float(op.flops(rows)[0]) for op in operators(shape, tp).token_operators)

    assert gemm_flops(4) * 4 == pytest.approx(gemm_flops(1), rel=0.02)
    launches = {op.name: op.count for op in operators(shape, 4).token_operators}
    assert launches["all_reduce"] == 2 * shape.num_layers + 1
    assert "all_reduce" not in {op.name for op in operators(shape, 1).token_operators}


def test_stages_split_the_operators() -> None:
    shape = load_model("llama-3.1-8b")
    precision = resolve_precision(shape)
    parts = [list_operators(shape, stage, precision) for stage in split_stages(shape.num_layers, 3)]
    assert sum(weight_bytes(part) for part in parts) == weight_bytes(operators(shape))
    assert [bool(part.sample_operators) for part in parts] == [False, False, True]
    assert [part.send_bytes_a_token for part in parts] == [2 * 4096 * 2, 2 * 4096 * 2, 0.0]


def test_quantized_weights_are_smaller_and_may_compute_faster() -> None:
    shape = load_model("llama-3.1-8b")
    plain = weight_bytes(operators(shape))
    head = 128_256 * 4096 * 2
    assert weight_bytes(operators(shape, quantization="fp8")) == pytest.approx((plain - head) / 2 + head)
    assert weight_bytes(operators(shape, quantization="awq")) < 0.3 * (plain - head) + head
    dtypes = {op.name: op.dtype for op in operators(shape, quantization="fp8").token_operators}
    assert dtypes["qkv"] == "fp8"
    widened = resolve_precision(shape, quantization="fp8", native_dtypes=frozenset({"bfloat16"}))
    assert widened.compute == "bfloat16"
    only_experts = {op.name: op.dtype for op in operators(load_model("gpt-oss-20b")).token_operators}
    assert only_experts["qkv"] == only_experts["experts"] == "bfloat16"


def test_attention_of_each_kind() -> None:
    llama = operators(load_model("llama-3.1-8b"), tp=2).attention
    assert [(a.layers, a.window, a.kv_bytes_a_token) for a in llama] == [(32, 0, 2 * 4 * 128 * 2)]
    assert llama[0].decode_flops_a_key == 4 * 16 * 128
    gemma = operators(load_model("gemma-3-12b")).attention
    assert [(a.window > 0, a.layers) for a in gemma] == [(False, 8), (True, 40)]
    deepseek = operators(load_model("deepseek-v3"), tp=8).attention[0]
    # The latent (512 + 64) is held by every rank; decode works on it, prefill on heads of 192 and 128.
    assert deepseek.kv_bytes_a_token == 576 * 2
    assert deepseek.decode_flops_a_key == 2 * 16 * (512 + 576)
    assert deepseek.prefill_flops_a_pair == 2 * 16 * (192 + 128)
    fp8 = operators(load_model("llama-3.1-8b"), kv_cache_dtype="fp8").attention[0]
    assert fp8.kv_bytes_a_token == 2 * 8 * 128


def test_expected_activated_experts() -> None:
    weights = ExpertWeights(num_experts=128, experts_per_token=8, bytes_an_expert=1.0)
    activated = weights.activated(np.array([0.0, 1.0, 2.0, 1e5]))
    assert activated.tolist() == pytest.approx([0.0, 8.0, 16.0 - 0.5, 128.0])


@given(st.integers(1, 60), st.integers(0, 60), st.integers(0, 80))
def test_attended_pairs_and_keys_equal_a_count(tokens: int, history: int, window: int) -> None:
    keys = [range(max(0, p + 1 - window) if window else 0, p + 1) for p in range(history, history + tokens)]
    assert attended_pairs(tokens, history, window) == sum(len(each) for each in keys)
    distinct = len(set().union(*keys))
    # A window's first query sees itself and window - 1 others; we count one key more.
    assert distinct <= attended_keys(tokens, history, window) <= distinct + (1 if window else 0)
