"""From a pool of a scenario to what its instances are made of: scheduler options, memory, step timers."""

from __future__ import annotations

from dataclasses import replace

from simserve.cost.build import ExplainableTimer
from simserve.cost.host import HostProfile
from simserve.devices.accelerator import Accelerator
from simserve.engine.memory import MemoryRequest, plan_memory
from simserve.engine.memory_plan import MemoryPlan
from simserve.engine.profile import EngineProfile, default_limits, load_profile
from simserve.errors import InputError
from simserve.kvcache.cache_plan import CachePlan
from simserve.model.shape import ModelShape
from simserve.registry import lookup
from simserve.scenario.catalog import load_hardware, load_model
from simserve.scenario.engine_kind import attention_window, memory_shape, resolve_engine, resolve_load
from simserve.scenario.engine_plan import EnginePlan
from simserve.scenario.engine_schema import Engine
from simserve.scenario.kv_cache_build import plan_cache
from simserve.scenario.order_build import plan_order
from simserve.scenario.schema import Scenario
from simserve.scenario.sglang_keys import (
    leaves_activations_outside,
    plan_tree,
    resolve_sglang,
    speaks_sglang,
)
from simserve.scenario.speculation_build import draft_shape, plan_speculation
from simserve.scenario.timer_build import (
    plan_cost,
    plan_draft_cost,
    plan_host,
    plan_timers,
    profile_prompts,
    sharing_ranks,
)
from simserve.scheduler.config import KVGroup, SchedulerConfig


def plan_engine(scenario: Scenario, index: int, host: HostProfile | None = None) -> EnginePlan:
    """Resolve a pool: catalogs, the version's defaults, memory, timers.

    Args:
        scenario: The scenario.
        index: Which of its pools.
        host: In place of the engine's host profile.

    Raises:
        InputError: For unknown names and options that cannot work together.
        CapacityError: If the model does not fit.
    """
    pool = scenario.pools[index]
    engine = resolve_engine(pool.engine)
    profile = load_profile(engine.version)
    shape = load_model(scenario.model_of(pool), scenario.folder)
    accelerator = load_hardware(pool.hardware, scenario.folder)
    if speaks_sglang(engine):
        engine = resolve_sglang(engine, accelerator, scenario.seed)
    draft = draft_shape(engine.speculative, shape, scenario)
    tokens, seqs = _limits(engine, accelerator)
    kept = memory_shape(engine, shape)
    memory = plan_memory(kept, accelerator, _memory_request(engine, kept, tokens, seqs), draft)
    notes = [*memory.notes, *_model_notes(shape)]
    if not engine.enable_chunked_prefill and tokens < memory.max_model_len:
        notes += _check_raised(pool.engine, engine, tokens, memory.max_model_len)
        tokens = memory.max_model_len
    config = replace(
        _scheduler_config(engine, profile, memory, tokens, seqs, scenario.seed),
        attention_window=attention_window(engine, shape),
        block_copies=_block_copies(shape, engine.pipeline_parallel_size),
        order=plan_order(engine.order, scenario.slo, scenario.seed) if engine.order else None,
    )
    cost = plan_cost(scenario)
    timers = plan_timers(cost, shape, accelerator, engine, host=plan_host(engine, profile, config, host))
    config = replace(config, cache=_cache_plan(engine, memory, shape, accelerator, timers, tokens))
    if getattr(lookup("engine", engine.kind), "wants_prefill_profile", False):
        config = replace(config, prefill_profile=profile_prompts(timers, config.max_model_len))
    return EnginePlan(
        engine, config, memory, profile, shape, accelerator, timers,
        plan_draft_cost(cost, draft, accelerator, pool.engine),
        [f"pool {pool.name}: {note}" for note in notes],
    )  # fmt: skip


def _model_notes(shape: ModelShape) -> list[str]:
    if not shape.unknown_type:
        return []
    return [
        f"{shape.name}: model type {shape.unknown_type!r} is not known; its config.json is "
        "read as that of a plain decoder-only transformer such as Llama"
    ]


def _check_raised(given: Engine, engine: Engine, tokens: int, longest: int) -> list[str]:
    """Return what to say where whole prompts need more tokens a step than `max_num_batched_tokens`.

    Raises:
        InputError: If the user has chosen both the limit and prompts that are not cut.
    """
    if engine.max_num_batched_tokens is None:
        return []
    if given.enable_chunked_prefill:
        return [
            f"max_num_batched_tokens raised from {tokens:,} to max_model_len {longest:,}: "
            f"kind {engine.kind!r} computes prompts whole"
        ]
    raise InputError(
        f"max_num_batched_tokens {tokens} is below max_model_len {longest}, and without "
        "chunked prefill no step could hold the longest prompt"
    )


def _cache_plan(
    engine: Engine,
    memory: MemoryPlan,
    shape: ModelShape,
    accelerator: Accelerator,
    timers: list[ExplainableTimer],
    tokens: int,
) -> CachePlan | None:
    """Return what KV caches are built from; None for the kind's own."""
    cache = None
    if engine.kv_cache is not None:
        gpus = engine.tensor_parallel_size * engine.pipeline_parallel_size
        sharing = engine.decode_context_parallel_size
        layers = -(-shape.num_layers // engine.pipeline_parallel_size)
        cache = plan_cache(
            engine.kv_cache, memory, accelerator, timers, gpus, sharing, tokens, resolve_load(engine), layers
        )
    return plan_tree(engine, timers, tokens, memory.max_model_len, cache) if speaks_sglang(engine) else cache


def _limits(engine: Engine, accelerator: Accelerator) -> tuple[int, int]:
    tokens, seqs = default_limits(accelerator)
    if engine.max_num_batched_tokens is not None:
        tokens = engine.max_num_batched_tokens
        seqs = min(seqs, tokens)
    if engine.max_num_seqs is not None:
        seqs = engine.max_num_seqs
        tokens = max(tokens, seqs)
    return tokens, seqs


def _memory_request(engine: Engine, shape: ModelShape, tokens: int, seqs: int) -> MemoryRequest:
    return MemoryRequest(
        max_num_seqs=seqs,
        max_num_batched_tokens=tokens,
        max_model_len=engine.max_model_len,
        block_size=engine.block_size,
        gpu_memory_utilization=engine.gpu_memory_utilization,
        tensor_parallel_size=engine.tensor_parallel_size,
        pipeline_parallel_size=engine.pipeline_parallel_size,
        data_parallel_size=sharing_ranks(engine, shape),
        enable_expert_parallel=engine.enable_expert_parallel,
        decode_context_parallel_size=engine.decode_context_parallel_size,
        dtype=engine.dtype,
        kv_cache_dtype=engine.kv_cache_dtype,
        quantization=engine.quantization,
        enforce_eager=engine.enforce_eager,
        version=engine.version,
        num_gpu_blocks_override=engine.num_gpu_blocks_override,
        disable_hybrid_kv_cache_manager=engine.disable_hybrid_kv_cache_manager,
        activations_outside=leaves_activations_outside(engine),
        cpu_offload_gb=engine.cpu_offload_gb,
    )


def _scheduler_config(
    engine: Engine, profile: EngineProfile, memory: MemoryPlan, tokens: int, seqs: int, seed: int
) -> SchedulerConfig:
    speculative = engine.speculative
    reserve = engine.scheduler_reserve_full_isl
    return SchedulerConfig(
        num_gpu_blocks=memory.num_gpu_blocks,
        block_size=memory.block_size,
        max_num_seqs=seqs,
        max_num_batched_tokens=tokens,
        max_model_len=memory.max_model_len,
        enable_prefix_caching=engine.enable_prefix_caching,
        enable_chunked_prefill=engine.enable_chunked_prefill,
        policy=engine.scheduling_policy,
        long_prefill_token_threshold=engine.long_prefill_token_threshold,
        scheduler_reserve_full_isl=profile.scheduler_reserve_full_isl if reserve is None else reserve,
        async_scheduling=profile.resolve_async(
            engine.async_scheduling, speculative.method if speculative else None
        ),
        pipeline_parallel_size=engine.pipeline_parallel_size,
        speculative=plan_speculation(speculative, seed),
        kv_groups=tuple(KVGroup(window) for window in memory.kv_windows),
        block_bytes=memory.block_bytes,
    )


def _block_copies(shape: ModelShape, stages: int) -> int:
    """Return into how many pieces of memory a rank's block is cut: keys and values of each of its layers."""
    return -(-shape.num_layers // stages) * (1 if shape.is_mla else 2)
