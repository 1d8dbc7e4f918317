"""Launches of the profiling tool, run on the CPU where PyTorch is installed: they compute what they claim."""

from __future__ import annotations

from typing import Any

import pytest

from tools.profile_gpu.attention import attention_launches
from tools.profile_gpu.launches import LaunchBuilder
from tools.profile_gpu.plan import Case

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
DEVICE = "cpu"


@pytest.fixture(scope="module")
def builder() -> LaunchBuilder:
    return LaunchBuilder(torch, compiled=False, device=DEVICE)


def run(builder: LaunchBuilder, case: Case) -> Any:
    (ready,) = builder.build(case)
    return ready.prepare()()


def test_a_gemm_has_its_output(builder: LaunchBuilder) -> None:
    columns = {"dtype": "bfloat16", "op": "gemm", "M": 3, "N": 16, "K": 32}
    assert run(builder, Case("gemm", columns, 0)).shape == (3, 16)


@pytest.mark.parametrize("op", ["layernorm", "act_fn", "rotary_emb", "add"])
def test_elementwise_kernels_keep_the_size(builder: LaunchBuilder, op: str) -> None:
    columns = {"dtype": "bfloat16", "op": op, "tokens": 4, "width": 256, "gated": 1}
    assert run(builder, Case("elementwise", columns, 0)).numel() == 4 * 256


@pytest.mark.parametrize(
    ("table", "columns", "shape"),
    [
        ("attn_decode", {"batch": 3, "kv_len": 64}, (3, 4, 1, 16)),
        ("attn_prefill", {"batch": 2, "q_len": 8, "kv_prefix": 24}, (2, 4, 8, 16)),
    ],
)
def test_attention_sees_prefix_and_chunk(table: str, columns: dict[str, int], shape: tuple[int, ...]) -> None:
    heads = {"dtype": "bfloat16", "heads": 4, "kv_heads": 2, "head_dim": 16}
    found = next(iter(attention_launches(torch, table, {**heads, **columns}, DEVICE)))
    assert found[0] == "torch"
    assert found[2]()().shape == shape


def test_a_mixed_batch_needs_a_library_with_variable_lengths() -> None:
    heads = {"dtype": "bfloat16", "heads": 4, "kv_heads": 2, "head_dim": 16}
    row = {**heads, "prefill_chunk": 16, "kv_prefill": 0, "n_decode": 2, "kv_decode": 64}
    assert "torch" not in [
        framework for framework, _, _ in attention_launches(torch, "attn_mixed", row, DEVICE)
    ]
