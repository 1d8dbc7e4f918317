"""What a scenario says to `kind: sglang`: SGLang's options, and what vLLM's names mean to it.

| vLLM's key | SGLang's option |
|---|---|
| `max_num_seqs` | `max_running_requests` |
| `max_num_batched_tokens` | `chunked_prefill_size` |
| `enable_chunked_prefill: false` | `chunked_prefill_size: null` |
| `enable_prefix_caching: false` | `disable_radix_cache: true` |
| `async_scheduling: false` | `disable_overlap_schedule: true` |
| `scheduling_policy: priority` | `enable_priority_scheduling` and `schedule_low_priority_values_first` |
| `block_size`, where it is not vLLM's 16 | `page_size` |
| `num_gpu_blocks_override` | `max_total_tokens`, as many tokens |
| `gpu_memory_utilization` | as in vLLM: activations are inside; `mem_fraction_static` leaves them outside |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from simserve.cost.timer import StepTimer
from simserve.devices.accelerator import Accelerator
from simserve.engine.sglang_profile import (
    LEAST_RUNNING_REQUESTS,
    default_chunked_prefill_size,
    default_mem_fraction_static,
)
from simserve.errors import UnknownNameError
from simserve.kvcache.cache_plan import CachePlan
from simserve.registry import lookup
from simserve.scenario.engine_kind import own_options
from simserve.scenario.engine_schema import Engine
from simserve.scenario.eviction_build import complete_eviction_options
from simserve.scheduler.sglang.options import OPTION_DEFAULTS

_VLLM_BLOCK_SIZE: int = Engine.model_fields["block_size"].default


def speaks_sglang(engine: Engine) -> bool:
    """Whether a section is for SGLang's scheduler, or one that extends it."""
    return getattr(lookup("engine", engine.kind), "option_defaults", None) is OPTION_DEFAULTS


def resolve_sglang(engine: Engine, accelerator: Accelerator, seed: int) -> Engine:
    """Return the section with SGLang's options complete, and vLLM's keys as they say the same.

    Args:
        engine: The section as given.
        accelerator: Whose memory decides some defaults.
        seed: Of the scenario.

    Raises:
        UnknownNameError: For unknown options.
    """
    given = own_options(engine)
    for name in given:
        if name not in OPTION_DEFAULTS:
            raise UnknownNameError("option of engine kind 'sglang'", name, OPTION_DEFAULTS)
    options = dict(OPTION_DEFAULTS) | {"random_seed": seed} | _from_common_keys(engine) | given
    if options["chunked_prefill_size"] == "default":
        options["chunked_prefill_size"] = default_chunked_prefill_size(accelerator.memory_bytes)
    elif options["chunked_prefill_size"] == -1:  # SGLang's own way to say so
        options["chunked_prefill_size"] = None
    keys = _to_common_keys(engine, options, accelerator)
    return engine.model_copy(update=keys | {"options": options})


def leaves_activations_outside(engine: Engine) -> bool:
    """Whether `gpu_memory_utilization` of a resolved section covers weights and KV pool alone."""
    return speaks_sglang(engine) and engine.options.get("mem_fraction_static") is not None


def plan_tree(
    engine: Engine,
    timers: Sequence[StepTimer],
    chunk_tokens: int,
    longest: int,
    given: CachePlan | None = None,
) -> CachePlan | None:
    """Return what the eviction policy of a resolved section is told, and the tiers; None: nothing.

    Args:
        engine: The section.
        timers, chunk_tokens, longest: See `complete_eviction_options`.
        given: What `kv_cache` says, of which the tiers count.
    """
    policy = engine.options["radix_eviction_policy"]
    options = complete_eviction_options(str(policy), {}, timers, chunk_tokens, longest)
    tiers = given.tiers if given is not None else None
    return CachePlan("radix", str(policy), options, tiers) if options or tiers else None


def _from_common_keys(engine: Engine) -> dict[str, Any]:
    """Return SGLang's options as vLLM's keys give them."""
    options: dict[str, Any] = {}
    if engine.max_num_seqs is not None:
        options["max_running_requests"] = engine.max_num_seqs
    if not engine.enable_chunked_prefill:
        options["chunked_prefill_size"] = None
        if engine.max_num_batched_tokens is not None:
            options["max_prefill_tokens"] = engine.max_num_batched_tokens
    elif engine.max_num_batched_tokens is not None:
        options["chunked_prefill_size"] = engine.max_num_batched_tokens
    if not engine.enable_prefix_caching:
        options["disable_radix_cache"] = True
    if engine.async_scheduling is False:
        options["disable_overlap_schedule"] = True
    if engine.scheduling_policy == "priority":
        # vLLM serves the lowest value first.
        options |= {"enable_priority_scheduling": True, "schedule_low_priority_values_first": True}
    if engine.block_size != _VLLM_BLOCK_SIZE:
        options["page_size"] = engine.block_size
    if engine.num_gpu_blocks_override is not None:
        options["max_total_tokens"] = (engine.num_gpu_blocks_override - 1) * engine.block_size
    return options


def _to_common_keys(engine: Engine, options: dict[str, Any], accelerator: Accelerator) -> dict[str, Any]:
    """Return what the memory plan, the step timer and the figures read, under vLLM's names.

    Completes `mem_fraction_static` in the options, unless vLLM's share was given instead.
    """
    page_size, chunk = options["page_size"], options["chunked_prefill_size"]
    tokens = chunk or options["max_prefill_tokens"]
    keys: dict[str, Any] = {
        "block_size": page_size,
        "max_num_seqs": options["max_running_requests"] or LEAST_RUNNING_REQUESTS,
        "max_num_batched_tokens": tokens,
        "enable_chunked_prefill": True,
        "enable_prefix_caching": not options["disable_radix_cache"],
        # A pipeline's batches in flight hold different requests.
        "async_scheduling": not options["disable_overlap_schedule"] and engine.pipeline_parallel_size == 1,
    }
    if options["max_total_tokens"] is not None:
        keys["num_gpu_blocks_override"] = options["max_total_tokens"] // page_size + 1
    fraction = options["mem_fraction_static"]
    if fraction is None and engine.gpu_memory_utilization is None:
        fraction = default_mem_fraction_static(
            accelerator.memory_bytes, tokens, engine.tensor_parallel_size, options["max_running_requests"]
        )
    if fraction is not None:
        keys["gpu_memory_utilization"] = options["mem_fraction_static"] = fraction
    return keys
