"""Experts and collectives when ranks share a stage in other ways than by width."""

from __future__ import annotations

import numpy as np
import pytest

from simserve.errors import InputError, UnknownNameError
from simserve.model.operators import Operator, OperatorFamily
from simserve.model.parallelism import Parallelism
from simserve.model.precision import resolve_precision
from simserve.model.stage import split_stages
from simserve.model.stage_operators import list_operators
from simserve.scenario.catalog import load_model

ROWS = np.array([256.0])


def listed(ranks: Parallelism, model: str = "deepseek-v3") -> dict[str, Operator]:
    shape = load_model(model)
    stage = split_stages(shape.num_layers, 1)[0]
    found = list_operators(shape, stage, resolve_precision(shape), parallelism=ranks)
    return {operator.name: operator for operator in found.token_operators}


def test_whole_experts_cost_a_rank_what_slices_of_all_cost() -> None:
    cut = listed(Parallelism(8))["experts"]
    whole = listed(Parallelism(8, enable_expert_parallel=True))["experts"]
    assert whole.flops(ROWS)[0] == pytest.approx(cut.flops(ROWS)[0])
    many = np.array([1e5])
    # The weights are the same once every expert is touched; rows are whole and fewer.
    assert cut.experts is not None
    assert whole.experts is not None
    assert whole.experts.bytes_an_expert == pytest.approx(8 * cut.experts.bytes_an_expert)
    held = whole.experts.activated(many)[0] / whole.experts.expert_ranks * whole.experts.bytes_an_expert
    assert held == pytest.approx(cut.experts.activated(many)[0] * cut.experts.bytes_an_expert)
    assert (whole.experts.expert_ranks, whole.experts.tensor_ranks) == (8, 1)


def test_blocks_side_by_side_are_reduced_once() -> None:
    """Falcon adds attention and MLP before the all-reduce; 80 layers and the embedding."""
    assert listed(Parallelism(4), "falcon-180b")["all_reduce"].count == 80 + 1
    assert listed(Parallelism(4), "bloom-176b")["all_reduce"].count == 2 * 70 + 1


def test_data_parallel_attention_gathers_tokens_for_the_experts() -> None:
    alone = listed(Parallelism(1))
    shared = listed(Parallelism(1, 8, enable_expert_parallel=True))
    # Each rank sees the tokens of all eight copies, and an eighth of the experts.
    assert shared["experts"].flops(ROWS)[0] == pytest.approx(alone["experts"].flops(ROWS)[0])
    assert shared["experts"].row_scale == 8
    assert shared["qkv" if "qkv" in shared else "latent_down"].flops_a_row == pytest.approx(
        alone["qkv" if "qkv" in alone else "latent_down"].flops_a_row
    )
    assert "all_reduce" not in shared
    gathered, scattered = shared["dispatch_experts"], shared["combine_experts"]
    assert (gathered.family, scattered.family) == (OperatorFamily.ALL_GATHER, OperatorFamily.REDUCE_SCATTER)
    assert gathered.bytes_a_row == 8 * 7168 * 2
    assert gathered.ranks == scattered.ranks == 8


def test_an_exchange_sends_rows_of_other_ranks_only() -> None:
    rows = listed(Parallelism(1, 8, True, "deepep_high_throughput"))["dispatch_experts"]
    assert rows.family is OperatorFamily.ALL_TO_ALL
    assert rows.bytes_a_row == pytest.approx(8 * 7168 * 2 * 7 / 8)


def test_wrong_ranks_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="pplx"):
        Parallelism(all2all_backend="pplxx")
    with pytest.raises(InputError, match="1 or more"):
        Parallelism(0)
    with pytest.raises(InputError, match="experts"):
        listed(Parallelism(4, 4, True), "mixtral-8x7b")


def test_quantised_inputs_are_quantised_once() -> None:
    shape = load_model("llama-3.1-8b")
    stage = split_stages(shape.num_layers, 1)[0]
    found = list_operators(shape, stage, resolve_precision(shape, quantization="fp8"))
    passes = [op for op in found.token_operators if op.family is OperatorFamily.QUANTIZE]
    assert [op.name for op in passes] == [
        "quantize_qkv_after_norm",
        "quantize_attention_output",
        "quantize_mlp_up_after_norm",
        "quantize_mlp_down_after_activation",
    ]
    # Read in 16 bits, written in 8.
    assert passes[0].bytes_a_row == 4096 * 3
    plain = list_operators(shape, stage, resolve_precision(shape, quantization="awq"))
    assert not [op for op in plain.token_operators if op.family is OperatorFamily.QUANTIZE]
