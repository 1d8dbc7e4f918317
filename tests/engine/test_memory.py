"""The KV pool against the blocks that real servers report, and its bookkeeping."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from simserve.engine.memory import MemoryRequest, default_utilization, plan_memory
from simserve.errors import CapacityError, InputError
from simserve.scenario.catalog import load_hardware, load_model

SMALL = MemoryRequest(max_num_seqs=128, max_num_batched_tokens=2048)


def request_of(run: dict[str, Any]) -> MemoryRequest:
    return MemoryRequest(
        max_num_seqs=run["max_num_seqs"],
        max_num_batched_tokens=run["max_num_batched_tokens"],
        max_model_len=run["max_model_len"],
        block_size=run["block_size"],
        gpu_memory_utilization=run["gpu_memory_utilization"],
        tensor_parallel_size=run["tensor_parallel_size"],
        dtype=run["dtype"],
        version=run["engine_version"],
    )


def test_blocks_of_real_servers_within_two_percent(data_dir: Path) -> None:
    stated = 0
    for path in sorted((data_dir / "e2e").glob("*/run.yaml")):
        run = yaml.safe_load(path.read_text())
        shape, accelerator = load_model(run["model"]), load_hardware(run["hardware_name"])
        assert load_hardware(run["hardware_id"]) == accelerator
        plan = plan_memory(shape, accelerator, request_of(run))
        if run["num_gpu_blocks"] is not None:
            stated += 1
            assert plan.num_gpu_blocks == pytest.approx(run["num_gpu_blocks"], rel=0.02), path
    assert stated >= 5


def test_lines_add_up_to_the_pool() -> None:
    plan = plan_memory(load_model("llama-3.1-8b"), load_hardware("h100-sxm"), SMALL)
    lines = plan.lines()
    assert sum(size for _, size, _ in lines[:-1]) == lines[-1][1] == plan.kv_bytes
    assert plan.num_gpu_blocks == plan.kv_bytes // plan.block_bytes
    assert plan.block_bytes == 16 * 131_072
    assert plan.kv_tokens == (plan.num_gpu_blocks - 1) * 16


def test_weights_in_host_memory_make_room_for_blocks() -> None:
    shape, accelerator = load_model("llama-3.1-8b"), load_hardware("h100-sxm")
    own, offloaded = (
        plan_memory(shape, accelerator, replace(SMALL, cpu_offload_gb=gib)) for gib in (0.0, 4.0)
    )
    assert offloaded.offloaded_bytes == own.weight_bytes - offloaded.weight_bytes == 4 * 2**30
    assert offloaded.num_gpu_blocks - own.num_gpu_blocks == 4 * 2**30 // own.block_bytes
    assert "4.0 GiB more in host memory" in offloaded.lines()[2][2]
    # Embedding and LM head, 2 GiB, stay; the rest is 13.0 GiB.
    most = plan_memory(shape, accelerator, replace(SMALL, cpu_offload_gb=80.0))
    assert most.weight_bytes == pytest.approx(2 * 2**30, rel=0.03)
    assert "only 13.0 GiB" in most.notes[0]
    # A model that is too large for the GPU fits.
    large, small = load_model("llama-3.3-70b"), replace(SMALL, max_model_len=4096)
    with pytest.raises(CapacityError, match="cpu_offload_gb"):
        plan_memory(large, accelerator, small)
    assert plan_memory(large, accelerator, replace(small, cpu_offload_gb=80.0)).num_gpu_blocks > 1000


@pytest.mark.parametrize(("name", "gib"), [("llama-3.1-8b", 14.9889), ("qwen3-8b", 15.27)])
def test_weights_are_what_vllm_logs(name: str, gib: float) -> None:
    # "Model loading took 14.9889 GiB", as quoted in public logs.
    plan = plan_memory(load_model(name), load_hardware("h100-sxm"), SMALL)
    assert plan.weight_bytes / 2**30 == pytest.approx(gib, abs=0.005)


def test_what_costs_memory_shrinks_the_pool() -> None:
    shape, h100 = load_model("llama-3.1-8b"), load_hardware("h100-sxm")
    blocks = plan_memory(shape, h100, SMALL).num_gpu_blocks

    def with_options(**options: Any) -> int:
        return plan_memory(shape, h100, replace(SMALL, **options)).num_gpu_blocks

    assert with_options(max_num_batched_tokens=16384) < blocks
    assert with_options(gpu_memory_utilization=0.8) < blocks < with_options(gpu_memory_utilization=0.95)
    assert with_options(quantization="fp8") > blocks
    assert with_options(kv_cache_dtype="fp8") == pytest.approx(2 * blocks, abs=2)
    assert with_options(block_size=32) == pytest.approx(blocks / 2, abs=1)
    assert with_options(tensor_parallel_size=2) > 2 * blocks
    new = {"version": "0.23", "gpu_memory_utilization": 0.9}
    assert with_options(**new) < with_options(**new, enforce_eager=True) == blocks
    draft = plan_memory(shape, h100, SMALL, draft=load_model("llama-3.2-1b"))
    assert draft.num_gpu_blocks < blocks
    assert draft.block_bytes == 16 * (131_072 + 32_768)


def test_default_utilization_of_versions() -> None:
    assert [default_utilization(version) for version in ("0.15.1", "0.19", "0.23.0")] == [0.9, 0.9, 0.92]
    with pytest.raises(InputError, match="not a version"):
        default_utilization("newest")


def test_a_model_larger_than_the_gpu_is_refused() -> None:
    with pytest.raises(CapacityError) as caught:
        plan_memory(load_model("llama-3.1-70b"), load_hardware("rtx-4090"), SMALL)
    message = str(caught.value)
    assert "131.4 GiB for weights" in message
    assert "has 21.2 GiB (0.9 of 23.5 GiB)" in message


def test_max_model_len_is_the_smaller_of_model_and_pool() -> None:
    shape, gpu = load_model("llama-3.1-8b"), load_hardware("rtx-4090")
    plan = plan_memory(shape, gpu, SMALL)
    assert plan.max_model_len == plan.kv_tokens < 131_072
    assert f"reduced from the model's 131,072 to the {plan.max_model_len:,}" in plan.notes[0]
    roomy = plan_memory(shape, load_hardware("h100-sxm"), SMALL)
    assert (roomy.max_model_len, roomy.notes) == (131_072, ())
    assert plan_memory(shape, gpu, replace(SMALL, max_model_len=4096)).max_model_len == 4096
    with pytest.raises(CapacityError, match="max_model_len 100,000 does not fit"):
        plan_memory(shape, gpu, replace(SMALL, max_model_len=100_000))
    with pytest.raises(InputError, match="above the 131,072"):
        plan_memory(shape, gpu, replace(SMALL, max_model_len=200_000))


def test_given_blocks_are_taken() -> None:
    plan = plan_memory(
        load_model("llama-3.1-8b"), load_hardware("h100-sxm"), replace(SMALL, num_gpu_blocks_override=1000)
    )
    assert plan.num_gpu_blocks == 1000
    assert plan.max_model_len == 999 * 16
    derived = plan_memory(load_model("llama-3.1-8b"), load_hardware("h100-sxm"), SMALL).num_gpu_blocks
    assert plan.notes[0] == f"num_gpu_blocks_override: 1,000 blocks; memory holds {derived:,}"
    with pytest.raises(CapacityError, match="does not fit on rtx-4090"):
        plan_memory(
            load_model("llama-3.1-70b"), load_hardware("rtx-4090"), replace(SMALL, num_gpu_blocks_override=9)
        )


def test_the_fullest_stage_decides() -> None:
    shape, gpu = load_model("llama-3.1-70b"), load_hardware("a100-sxm-80gb")
    plan = plan_memory(shape, gpu, replace(SMALL, pipeline_parallel_size=4))
    # 20 layers each; first and last hold embedding and head, the last one the sampler too.
    assert plan.stage in (0, 3)
    assert plan.block_bytes == 16 * shape.kv_bytes_per_token() // 4


def test_ranks_must_divide_the_heads() -> None:
    with pytest.raises(InputError, match="does not divide the 32 attention heads"):
        plan_memory(
            load_model("llama-3.1-8b"), load_hardware("h100-sxm"), replace(SMALL, tensor_parallel_size=3)
        )
