"""The flags of `vllm serve` that a scenario can express, and those that do not change a simulation.

Names, short forms and value types as in vLLM 0.19.0 (`vllm/engine/arg_utils.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple, get_args

from simserve.errors import InputError
from simserve.scenario.engine_schema import DType, KVCacheDType, Quantization


class Flag(NamedTuple):
    """A flag that sets one engine key.

    Attributes:
        key: The engine's key.
        read: Its value's reader; None for a switch (`--flag`, `--no-flag`).
    """

    key: str
    read: Callable[[str], Any] | None = None


class UnsupportedValueError(ValueError):
    """A value that vLLM knows and simserve does not simulate."""


SHORT_FLAGS = {
    "-tp": "--tensor-parallel-size",
    "-pp": "--pipeline-parallel-size",
    "-dp": "--data-parallel-size",
    "-dcp": "--decode-context-parallel-size",
    "-q": "--quantization",
    "-sc": "--speculative-config",
}

_DTYPE_NAMES = {"half": "float16", "float": "float32", "fp16": "float16", "bf16": "bfloat16"}
# Suffixes of vLLM's human-readable integers: lower case counts in thousands, upper case in 1024s.
_MULTIPLIERS = {"k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}


def read_int(text: str) -> int:
    """Return a whole number such as `8192`, `8k` (8,000) or `8K` (8,192)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgKMG]?)", text)
    value = float(match[1]) * _MULTIPLIERS.get(match[2], 1) if match else 0.5
    if value != int(value):
        raise InputError(f"expected a whole number, got {text!r}")
    return int(value)


def read_float(text: str) -> float:
    """Return a number."""
    try:
        return float(text)
    except ValueError:
        raise InputError(f"expected a number, got {text!r}") from None


def _read_length(text: str) -> int | None:
    return None if text in ("-1", "auto") else read_int(text)


def _one_of(choices: tuple[str, ...]) -> Callable[[str], str | None]:
    def read(text: str) -> str | None:
        name = _DTYPE_NAMES.get(text, text)
        if name == "auto":
            return None
        if name not in choices:
            raise UnsupportedValueError(text)
        return name

    return read


ENGINE_FLAGS = {
    "--tensor-parallel-size": Flag("tensor_parallel_size", read_int),
    "--pipeline-parallel-size": Flag("pipeline_parallel_size", read_int),
    "--data-parallel-size": Flag("data_parallel_size", read_int),
    "--decode-context-parallel-size": Flag("decode_context_parallel_size", read_int),
    "--cp-kv-cache-interleave-size": Flag("cp_kv_cache_interleave_size", read_int),
    "--max-num-seqs": Flag("max_num_seqs", read_int),
    "--max-num-batched-tokens": Flag("max_num_batched_tokens", read_int),
    "--max-model-len": Flag("max_model_len", _read_length),
    "--gpu-memory-utilization": Flag("gpu_memory_utilization", read_float),
    "--block-size": Flag("block_size", read_int),
    "--cpu-offload-gb": Flag("cpu_offload_gb", read_float),
    "--num-gpu-blocks-override": Flag("num_gpu_blocks_override", read_int),
    "--enable-prefix-caching": Flag("enable_prefix_caching"),
    "--enable-chunked-prefill": Flag("enable_chunked_prefill"),
    "--long-prefill-token-threshold": Flag("long_prefill_token_threshold", read_int),
    "--scheduler-reserve-full-isl": Flag("scheduler_reserve_full_isl"),
    "--scheduling-policy": Flag("scheduling_policy", _one_of(("fcfs", "priority"))),
    "--async-scheduling": Flag("async_scheduling"),
    "--dtype": Flag("dtype", _one_of(get_args(DType))),
    "--kv-cache-dtype": Flag("kv_cache_dtype", _one_of(get_args(KVCacheDType))),
    "--quantization": Flag("quantization", _one_of(get_args(Quantization))),
    "--enable-expert-parallel": Flag("enable_expert_parallel"),
    "--enforce-eager": Flag("enforce_eager"),
    "--disable-sliding-window": Flag("disable_sliding_window"),
    "--disable-hybrid-kv-cache-manager": Flag("disable_hybrid_kv_cache_manager"),
}

# Flags of the front end, of logging and of loading: known, and without effect on scheduling and times.
SILENT_SWITCHES = frozenset(
    [
        "--trust-remote-code",
        "--disable-log-requests",
        "--enable-log-requests",
        "--disable-log-stats",
        "--enable-auto-tool-choice",
        "--disable-uvicorn-access-log",
        "--disable-access-log-for-endpoints",
        "--disable-fastapi-docs",
        "--allow-credentials",
        "--enable-prompt-tokens-details",
        "--enable-request-id-headers",
        "--return-tokens-as-token-ids",
        "--enable-server-load-tracking",
        "--enable-force-include-usage",
        "--show-hidden-metrics",
    ]
)
SILENT_OPTIONS = frozenset(
    [
        "--host",
        "--port",
        "--uds",
        "--api-key",
        "--served-model-name",
        "--tokenizer",
        "--tokenizer-mode",
        "--tokenizer-revision",
        "--revision",
        "--code-revision",
        "--hf-token",
        "--hf-config-path",
        "--download-dir",
        "--load-format",
        "--chat-template",
        "--chat-template-content-format",
        "--tool-call-parser",
        "--tool-parser-plugin",
        "--reasoning-parser",
        "--response-role",
        "--uvicorn-log-level",
        "--root-path",
        "--ssl-keyfile",
        "--ssl-certfile",
        "--ssl-ca-certs",
        "--max-log-len",
        "--generation-config",
        "--override-generation-config",
        "--max-logprobs",
        "--allowed-origins",
        "--allowed-methods",
        "--allowed-headers",
        "--otlp-traces-endpoint",
        "--collect-detailed-traces",
        "--distributed-executor-backend",
        "--task",
        "--runner",
    ]
)
