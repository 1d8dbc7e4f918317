"""SGLang's options as a scenario gives them, and from them to the scheduler's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from simserve.errors import UnknownNameError
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.sglang.config import SglangConfig

# Not options: the model and the engine's memory plan say these.
_DERIVED = (
    "pool_tokens", "context_len", "eos_stream", "pipeline_parallel_size", "attention_window",
    "radix_eviction_options", "tiers",
)  # fmt: skip
# Options that only size the pool, or are derived from the accelerator where they say so.
_SIZES: dict[str, Any] = {
    "max_running_requests": None,
    "chunked_prefill_size": "default",
    "max_total_tokens": None,
    "mem_fraction_static": None,
}
# Every option of `kind: sglang`, under SGLang's name, with its default; None: the engine's own choice.
OPTION_DEFAULTS: Mapping[str, Any] = {
    **{each.name: each.default for each in fields(SglangConfig) if each.name not in _DERIVED},
    **_SIZES,
}


def build_config(common: SchedulerConfig, options: Mapping[str, Any]) -> SglangConfig:
    """Return the configuration for a pool as planned for any kind, with SGLang's options.

    Args:
        common: The plan; its pool, longest request, seats and overlap hold.
        options: SGLang's options by name; what is missing follows from the plan or is SGLang's default.

    Raises:
        InputError: For unknown options and values that make no sense.
    """
    for name in options:
        if name not in OPTION_DEFAULTS:
            raise UnknownNameError("option of engine kind 'sglang'", name, OPTION_DEFAULTS)
    pool_tokens = (common.num_gpu_blocks - 1) * common.block_size
    by_priority = common.policy == "priority"
    values: dict[str, Any] = {
        "page_size": common.block_size,
        "max_running_requests": min(common.max_num_seqs, max(1, pool_tokens // 2)),
        "chunked_prefill_size": common.max_num_batched_tokens if common.enable_chunked_prefill else None,
        "disable_radix_cache": not common.enable_prefix_caching,
        "disable_overlap_schedule": not common.async_scheduling,
        "enable_priority_scheduling": by_priority,
        "schedule_low_priority_values_first": by_priority,
    }
    values |= {name: value for name, value in options.items() if name not in _SIZES}
    if options.get("max_running_requests") is not None:
        values["max_running_requests"] = min(options["max_running_requests"], max(1, pool_tokens // 2))
    if options.get("chunked_prefill_size", "default") != "default":
        values["chunked_prefill_size"] = options["chunked_prefill_size"]
    return SglangConfig(
        pool_tokens=pool_tokens,
        context_len=common.max_model_len,
        pipeline_parallel_size=common.pipeline_parallel_size,
        attention_window=common.attention_window,
        radix_eviction_options=dict(common.cache.options) if common.cache is not None else {},
        tiers=common.cache.tiers if common.cache is not None else None,
        **values,
    )
