"""Pasted `vllm serve` command lines become scenarios; what has no counterpart is listed."""

from __future__ import annotations

import pytest

from simserve.errors import InputError
from simserve.scenario.engine_schema import Engine
from simserve.scenario.loader import load_scenario
from simserve.scenario.schema import Pool, Scenario
from simserve.scenario.vllm_command import import_command

# The trace that imported scenarios name is exchanged for generated requests: these tests are about flags.
GENERATED = "workload={arrivals: 1, prompt_tokens: 2, output_tokens: 2, requests: 3}"


def imported(command: str, hardware: str | None = None) -> tuple[Scenario, Pool, Engine, list[str]]:
    result = import_command(command, hardware)
    scenario = load_scenario(result.scenario_text, [GENERATED])
    return scenario, scenario.pools[0], scenario.pools[0].engine, result.unknown_flags


def test_flags_in_every_spelling() -> None:
    scenario, pool, engine, unknown = imported(
        "vllm serve meta-llama/Llama-3.1-8B -tp 2 --pipeline-parallel-size=2 --max_num_seqs 128 "
        "--max-num-batched-tokens 8k --max-model-len 32K --gpu-memory-utilization 0.85 --block-size 32 "
        "--no-enable-prefix-caching --enable-chunked-prefill --async-scheduling --dtype bfloat16 "
        "--kv-cache-dtype fp8 -q fp8 --enforce-eager --scheduling-policy priority --seed 7 "
        "--long-prefill-token-threshold 512 --num-gpu-blocks-override 5000 -dp 3"
    )
    assert unknown == []
    assert scenario.model == "llama-3.1-8b"
    assert scenario.seed == 7
    assert (pool.replicas, pool.hardware) == (1, "h100-sxm")
    assert engine == Engine(
        tensor_parallel_size=2,
        pipeline_parallel_size=2,
        data_parallel_size=3,
        max_num_seqs=128,
        max_num_batched_tokens=8000,
        max_model_len=32768,
        gpu_memory_utilization=0.85,
        block_size=32,
        enable_prefix_caching=False,
        async_scheduling=True,
        dtype="bfloat16",
        kv_cache_dtype="fp8",
        quantization="fp8",
        enforce_eager=True,
        scheduling_policy="priority",
        long_prefill_token_threshold=512,
        num_gpu_blocks_override=5000,
    )


@pytest.mark.parametrize(
    "command",
    [
        "vllm serve Qwen/Qwen3-14B --max-num-seqs 64",
        "$ vllm serve Qwen/Qwen3-14B --max-num-seqs 64",
        "/opt/venv/bin/vllm serve --max-num-seqs 64 Qwen/Qwen3-14B",
        "vllm serve --trust-remote-code --max-num-seqs=64 --port 8000 Qwen/Qwen3-14B",
        "CUDA_VISIBLE_DEVICES=0,1 VLLM_USE_V1=1 vllm serve 'Qwen/Qwen3-14B' --max-num-seqs '64'",
        "nohup vllm serve Qwen/Qwen3-14B --max-num-seqs 64 > server.log 2>&1 &",
        "vllm serve Qwen/Qwen3-14B \\\n  --max-num-seqs 64 \\\n  --host 0.0.0.0",
        "vllm serve Qwen/Qwen3-14B \\\r\n  --max-num-seqs 64; sleep 3",
        "python -m vllm.entrypoints.openai.api_server --model Qwen/Qwen3-14B --max-num-seqs 64",
        "python3 -m vllm.entrypoints.cli.main serve Qwen/Qwen3-14B --max-num-seqs 64",
        "docker run --gpus all -p 8000:8000 vllm/vllm-openai:latest --model Qwen/Qwen3-14B --max-num-seqs 64",
        "vllm serve --model=Qwen/Qwen3-14B --max-num-seqs 64 --no-enable-log-requests",
    ],
)
def test_command_lines_as_they_are_pasted(command: str) -> None:
    scenario, _, engine, unknown = imported(command)
    assert (scenario.model, engine.max_num_seqs, unknown) == ("qwen3-14b", 64, [])


@pytest.mark.parametrize(
    ("tag", "version"),
    [("v0.15.1", "0.15"), ("v0.19.0", "0.19"), ("v0.9.2", "0.15"), ("v0.22.0-cu128", "0.23")],
)
def test_an_image_tag_gives_the_version(tag: str, version: str) -> None:
    _, _, engine, _ = imported(f"docker run vllm/vllm-openai:{tag} --model Qwen/Qwen3-14B")
    assert engine.version == version


def test_speculative_config() -> None:
    _, _, engine, unknown = imported(
        "vllm serve Qwen/Qwen3-14B --speculative-config "
        '\'{"method": "eagle3", "model": "some/head", "num_speculative_tokens": 3, "mystery": 1}\''
    )
    assert engine.speculative is not None
    assert (engine.speculative.method, engine.speculative.num_speculative_tokens) == ("eagle", 3)
    assert engine.speculative.acceptance == 0.7
    assert unknown == ["--speculative-config mystery"]
    _, _, engine, _ = imported(
        "vllm serve Qwen/Qwen3-14B --speculative-config.model Qwen/Qwen3-0.6B "
        "--speculative-config.num-speculative-tokens 4"
    )
    assert engine.speculative is not None
    assert (engine.speculative.method, engine.speculative.model) == ("draft_model", "qwen3-0.6b")


def test_unknown_flags_and_values_are_listed() -> None:
    _, _, engine, unknown = imported(
        "vllm serve Qwen/Qwen3-14B --enable-lora --frobnicate=3 --lora-modules a=b "
        "--quantization bitsandbytes --max-num-seqs 32"
    )
    assert unknown == [
        "--enable-lora",
        "--frobnicate 3",
        "--lora-modules a=b",
        "--quantization bitsandbytes",
    ]
    assert engine.max_num_seqs == 32
    assert engine.quantization is None


def test_a_model_behind_an_unknown_switch_is_found() -> None:
    scenario, _, _, unknown = imported("vllm serve --some-new-switch Qwen/Qwen3-14B")
    assert (scenario.model, unknown) == ("qwen3-14b", ["--some-new-switch"])


def test_assumptions_are_commented() -> None:
    text = import_command("vllm serve someone/unheard-of").scenario_text
    assert "hardware: h100-sxm  # assumed" in text
    assert "model: someone/unheard-of  # unknown model 'someone/unheard-of'" in text
    assert "assumed" not in import_command("vllm serve Qwen/Qwen3-14B", "l40s").scenario_text


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("ls -l", "not a vLLM server's command line"),
        ("", "not a vLLM server's command line"),
        ("vllm serve", "names no model"),
        ("vllm serve 'Qwen", "cannot split the command line"),
        ("vllm serve m --max-num-seqs many", "--max-num-seqs: expected a whole number, got 'many'"),
        ("vllm serve m --max-num-seqs", "--max-num-seqs: expected a value"),
        ("vllm serve m --gpu-memory-utilization x", "--gpu-memory-utilization: expected a number, got 'x'"),
        ("vllm serve m --speculative-config {", "--speculative-config: no valid JSON"),
        ('vllm serve m --speculative-config \'{"method": "ngram"}\'', "expected num_speculative_tokens"),
        ("vllm serve m --enforce-eager=3", "--enforce-eager: expected no value, got '3'"),
    ],
)
def test_wrong_command_lines(command: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        import_command(command)
    assert message in str(caught.value)


def test_unknown_hardware_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'h100-sxm'"):
        import_command("vllm serve Qwen/Qwen3-14B", "h100-smx")


def test_weights_may_lie_in_host_memory() -> None:
    _, _, engine, unknown = imported("vllm serve meta-llama/Llama-3.1-8B --cpu-offload-gb 2.5")
    assert (engine.cpu_offload_gb, unknown) == (2.5, [])
