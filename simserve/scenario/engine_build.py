"""From a pool of a scenario to what its instances are made of: scheduler options, memory, step timers."""

from __future__ import annotations

from dataclasses import replace

from simserve.cost.build import OPERATOR_KINDS, CostSpec, ExplainableTimer, build_timers
from simserve.cost.graphs import capture_sizes
from simserve.cost.host import NO_HOST, HostProfile, HostTime, resolve_host
from simserve.cost.host_profiles import host_profile
from simserve.cost.timer import Chunk
from simserve.data_files import find_file
from simserve.devices.accelerator import GIB, Accelerator
from simserve.engine.clock import DraftCost
from simserve.engine.memory import MemoryPlan, MemoryRequest, plan_memory
from simserve.engine.profile import EngineProfile, default_limits, load_profile
from simserve.errors import InputError
from simserve.model.shape import ModelShape
from simserve.registry import lookup
from simserve.rng import keyed_uniform
from simserve.scenario.catalog import load_calibration, load_generic_calibration, load_hardware, load_model
from simserve.scenario.engine_kind import attention_window, memory_shape, resolve_engine, resolve_load
from simserve.scenario.engine_plan import EnginePlan
from simserve.scenario.engine_schema import Engine, Speculative
from simserve.scenario.kv_cache_build import plan_cache
from simserve.scenario.order_build import plan_order
from simserve.scenario.schema import Pool, Scenario
from simserve.scenario.sglang_keys import (
    leaves_activations_outside,
    plan_tree,
    resolve_sglang,
    speaks_sglang,
)
from simserve.scheduler.config import Acceptance, KVGroup, SchedulerConfig, Speculation


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
    draft_shape = _draft_shape(engine.speculative, shape, scenario)
    tokens, seqs = _limits(engine, accelerator)
    kept = memory_shape(engine, shape)
    memory = plan_memory(kept, accelerator, _memory_request(engine, kept, tokens, seqs), draft_shape)
    notes = list(memory.notes)
    if shape.unknown_type:
        notes.append(
            f"{shape.name}: model type {shape.unknown_type!r} is not known; its config.json is "
            "read as that of a plain decoder-only transformer such as Llama"
        )
    if not engine.enable_chunked_prefill and tokens < memory.max_model_len:
        if engine.max_num_batched_tokens is not None and pool.engine.enable_chunked_prefill:
            notes.append(
                f"max_num_batched_tokens raised from {tokens:,} to max_model_len {memory.max_model_len:,}: "
                f"kind {engine.kind!r} computes prompts whole"
            )
        elif engine.max_num_batched_tokens is not None:
            raise InputError(
                f"max_num_batched_tokens {tokens} is below max_model_len {memory.max_model_len}, and without "
                "chunked prefill no step could hold the longest prompt"
            )
        tokens = memory.max_model_len
    config = _scheduler_config(engine, profile, memory, tokens, seqs, scenario.seed)
    config = replace(
        config,
        attention_window=attention_window(engine, shape),
        block_copies=_block_copies(shape, engine.pipeline_parallel_size),
        order=plan_order(engine.order, scenario.slo, scenario.seed) if engine.order else None,
    )
    tables = tuple(str(find_file(table, scenario.folder, or_folder=True)) for table in scenario.cost.tables)
    cost = CostSpec(**{**scenario.cost.model_dump(), "tables": tables})
    timers = _timers(cost, shape, accelerator, engine, host=_host_time(engine, profile, config, host))
    if engine.kv_cache is not None:
        gpus = engine.tensor_parallel_size * engine.pipeline_parallel_size
        sharing = engine.decode_context_parallel_size
        layers = -(-shape.num_layers // engine.pipeline_parallel_size)
        cache = plan_cache(
            engine.kv_cache, memory, accelerator, timers, gpus, sharing, tokens, resolve_load(engine), layers
        )
        config = replace(config, cache=cache)
    if speaks_sglang(engine):
        config = replace(config, cache=plan_tree(engine, timers, tokens, memory.max_model_len, config.cache))
    if getattr(lookup("engine", engine.kind), "wants_prefill_profile", False):
        config = replace(config, prefill_profile=_profile_prompts(timers, config.max_model_len))
    return EnginePlan(
        engine, config, memory, profile, shape, accelerator, timers,
        _draft_cost(cost, draft_shape, shape, accelerator, pool),
        [f"pool {pool.name}: {note}" for note in notes],
    )  # fmt: skip


def _profile_prompts(timers: list[ExplainableTimer], longest: int) -> tuple[tuple[int, float], ...]:
    """Return how many seconds prompts of 1, 2, 4, ... tokens take alone, through all stages."""
    lengths = [1 << power for power in range((longest - 1).bit_length() + 1)]
    return tuple(
        (tokens, sum(timer.batch_ns(0, 0, 0, [Chunk(tokens, 0)], 1) for timer in timers) / 1e9)
        for tokens in lengths
    )


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
        data_parallel_size=_sharing_ranks(engine, shape),
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


def _sharing_ranks(engine: Engine, shape: ModelShape) -> int:
    """Data-parallel ranks that share experts; those of a dense model are engines by themselves."""
    return engine.data_parallel_size if shape.is_moe else 1


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
        speculative=_speculation(speculative, seed),
        kv_groups=tuple(KVGroup(window) for window in memory.kv_windows),
        block_bytes=memory.block_bytes,
    )


def _block_copies(shape: ModelShape, stages: int) -> int:
    """Return into how many pieces of memory a rank's block is cut: keys and values of each of its layers."""
    return -(-shape.num_layers // stages) * (1 if shape.is_mla else 2)


def _speculation(speculative: Speculative | None, seed: int) -> Speculation | None:
    if speculative is None:
        return None
    drafts = speculative.num_speculative_tokens
    given = speculative.acceptance
    rates = (given,) * drafts if isinstance(given, float | int) else tuple(given)
    return Speculation(speculative.method, drafts, _acceptance(rates, seed))


def _acceptance(rates: tuple[float, ...], seed: int) -> Acceptance:
    """Accept drafts from the first on, each with its position's probability, until one is rejected."""

    def accept(request_id: int, verified_steps: int, drafts: int) -> int:
        for position in range(drafts):
            draw = keyed_uniform(seed, request_id, "acceptance", verified_steps * len(rates) + position)
            if draw >= rates[position]:
                return position
        return drafts

    return accept


def _draft_shape(speculative: Speculative | None, shape: ModelShape, scenario: Scenario) -> ModelShape | None:
    """Return the draft model; EAGLE's head is one layer of the model (Li et al., 2024, section 3)."""
    if speculative is None or speculative.method == "ngram":
        return None
    if speculative.model is not None:
        return load_model(speculative.model, scenario.folder)
    return replace(
        shape,
        name=f"{shape.name} (EAGLE)",
        num_layers=1,
        layer_windows=shape.layer_windows[-1:],
        layer_experts=shape.layer_experts[-1:],
    )


def _host_time(
    engine: Engine, profile: EngineProfile, config: SchedulerConfig, given: HostProfile | None
) -> HostTime:
    """Resolve what the CPU adds to a step, and which batch sizes run as CUDA graphs."""
    sizes = capture_sizes(config.max_num_seqs, config.max_num_batched_tokens)
    return resolve_host(
        given or host_profile(engine.host_profile or profile.host),
        ranks=engine.tensor_parallel_size * engine.pipeline_parallel_size,
        overlaps=config.async_scheduling or engine.pipeline_parallel_size > 1,
        graph_sizes=() if engine.enforce_eager else sizes,
    )


def _timers(
    cost: CostSpec,
    shape: ModelShape,
    accelerator: Accelerator,
    engine: Engine,
    stages: int | None = None,
    host: HostTime = NO_HOST,
) -> list[ExplainableTimer]:
    return build_timers(
        cost,
        shape,
        accelerator,
        tensor_parallel_size=engine.tensor_parallel_size,
        pipeline_parallel_size=stages or engine.pipeline_parallel_size,
        data_parallel_size=_sharing_ranks(engine, shape),
        enable_expert_parallel=engine.enable_expert_parallel and shape.is_moe,
        decode_context_parallel_size=engine.decode_context_parallel_size,
        cp_kv_cache_interleave_size=engine.cp_kv_cache_interleave_size,
        dtype=engine.dtype,
        quantization=engine.quantization if stages is None else None,
        kv_cache_dtype=engine.kv_cache_dtype,
        cpu_offload_bytes=engine.cpu_offload_gb * GIB if stages is None else 0.0,
        host=host,
        calibration=load_calibration(accelerator),
        generic=load_generic_calibration(),
        engine_version=engine.version,
    )


def _draft_cost(
    cost: CostSpec, draft: ModelShape | None, shape: ModelShape, accelerator: Accelerator, pool: Pool
) -> DraftCost | None:
    speculative = pool.engine.speculative
    if draft is None or speculative is None or cost.kind not in OPERATOR_KINDS:
        return None
    # The drafts' forward passes are part of a step: its host time is counted once.
    timer = _timers(cost, draft, accelerator, pool.engine, stages=1)[0]
    return DraftCost(timer, speculative.num_speculative_tokens)
