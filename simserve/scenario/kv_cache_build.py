"""From the `kv_cache:` section to what engines build their KV caches from."""

from __future__ import annotations

from collections.abc import Sequence

from simserve.cost.timer import Chunk, StepTimer
from simserve.devices.accelerator import Accelerator
from simserve.engine.memory_plan import MemoryPlan
from simserve.errors import InputError
from simserve.kvcache.cache_plan import CachePlan, Load, TierPlan
from simserve.kvcache.tier import TierSpec
from simserve.scenario.eviction_build import complete_eviction_options
from simserve.scenario.kv_cache_schema import KVCache, Tier

_GIB = 2**30
_GB = 1e9


def plan_cache(
    section: KVCache,
    memory: MemoryPlan,
    accelerator: Accelerator,
    timers: Sequence[StepTimer],
    gpus: int,
    context_ranks: int,
    chunk_tokens: int,
    load: Load = "blocking",
    layers: int = 1,
) -> CachePlan:
    """Return the plan of a KV cache, which has been built once to see that it can be.

    Args:
        section: The scenario's section.
        memory: The engine's memory.
        accelerator: What each GPU is.
        timers: Step timers of the pipeline's stages, for the time to compute a prefix again.
        gpus: Of the engine.
        context_ranks: How many of them share the tokens of a sequence.
        chunk_tokens: Prompt tokens of a step at most.
        load: How what is fetched from tiers comes in.
        layers: Layers that a GPU holds.

    Raises:
        InputError: If nobody shares a sequence that is to be sharded, or there is no such eviction policy, or
            it does not take the options.
    """
    if section.kind == "sharded" and context_ranks == 1:
        raise InputError(
            "kv_cache kind 'sharded' needs GPUs that share each sequence: give decode_context_parallel_size "
            "above 1"
        )
    tiers = None
    if section.tiers:
        tiers = TierPlan(
            specs=tuple(_tier_spec(tier, accelerator) for tier in section.tiers),
            own_paths=tuple(tier.read_gb_per_s is not None for tier in section.tiers),
            bytes_per_token=-(-memory.block_bytes * gpus // memory.block_size),
            gpus=gpus,
            chunk_tokens=section.chunk_tokens,
            recompute_s=_RecomputeTime(timers) if section.fetch == "faster" else None,
            prefetch=section.prefetch,
            load=load,
            layers=layers,
        )
    options = complete_eviction_options(
        section.eviction, section.options, timers, chunk_tokens, memory.max_model_len
    )
    kind, eviction = section.kind or "paged", section.eviction
    plan = CachePlan(kind, eviction, options, tiers, context_ranks, section.placement)
    plan.build(2, memory.block_size, enable_prefix_caching=True)
    return plan


def _tier_spec(tier: Tier, accelerator: Accelerator) -> TierSpec:
    """Return a tier with its rates; without one of its own it is read over PCIe."""
    return TierSpec(
        name=tier.name,
        capacity_bytes=int(tier.capacity_gib * _GIB),
        read_bytes_per_s=tier.read_gb_per_s * _GB if tier.read_gb_per_s else accelerator.pcie_bytes_per_s,
        latency_s=tier.latency_s,
        write=tier.write,
        write_bytes_per_s=tier.write_gb_per_s * _GB if tier.write_gb_per_s else None,
    )


class _RecomputeTime:
    """Seconds of a prefill on an otherwise empty engine, all stages one after the other."""

    def __init__(self, timers: Sequence[StepTimer]) -> None:
        self._timers = timers

    def __call__(self, history: int, tokens: int) -> float:
        if tokens <= 0:
            return 0.0
        chunks = [Chunk(tokens, history)]
        return sum(timer.batch_ns(0, 0, 0, chunks, 1) for timer in self._timers) / 1e9
