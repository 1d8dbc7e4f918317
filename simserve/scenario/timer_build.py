"""From a pool to what its steps are timed by: operators on the accelerator, the host, and the draft model."""

from __future__ import annotations

from simserve.cost.build import OPERATOR_KINDS, CostSpec, ExplainableTimer
from simserve.cost.graphs import capture_sizes
from simserve.cost.host import NO_HOST, HostProfile, HostTime, resolve_host
from simserve.cost.host_profiles import host_profile
from simserve.cost.timer import Chunk
from simserve.data_files import find_file
from simserve.devices.accelerator import GIB, Accelerator
from simserve.engine.draft_cost import DraftCost
from simserve.engine.profile import EngineProfile
from simserve.model.shape import ModelShape
from simserve.scenario.engine_schema import Engine
from simserve.scenario.schema import Scenario
from simserve.scenario.step_timers import find_timers
from simserve.scheduler.config import SchedulerConfig


def plan_cost(scenario: Scenario) -> CostSpec:
    """Return the scenario's section `cost` with its files found."""
    tables = tuple(str(find_file(table, scenario.folder, or_folder=True)) for table in scenario.cost.tables)
    return CostSpec(**{**scenario.cost.model_dump(), "tables": tables})


def plan_timers(
    cost: CostSpec,
    shape: ModelShape,
    accelerator: Accelerator,
    engine: Engine,
    stages: int | None = None,
    host: HostTime = NO_HOST,
) -> list[ExplainableTimer]:
    """Return one timer a pipeline stage.

    Args:
        cost, shape, accelerator, engine: What runs where.
        stages: Of a draft model: into how many it is cut. It has formats of its own, and stays on the GPU.
        host: Host time of a step.
    """
    return find_timers(
        cost,
        shape,
        accelerator,
        host,
        tensor_parallel_size=engine.tensor_parallel_size,
        pipeline_parallel_size=stages or engine.pipeline_parallel_size,
        data_parallel_size=sharing_ranks(engine, shape),
        enable_expert_parallel=engine.enable_expert_parallel and shape.is_moe,
        decode_context_parallel_size=engine.decode_context_parallel_size,
        cp_kv_cache_interleave_size=engine.cp_kv_cache_interleave_size,
        dtype=engine.dtype,
        quantization=engine.quantization if stages is None else None,
        kv_cache_dtype=engine.kv_cache_dtype,
        cpu_offload_bytes=engine.cpu_offload_gb * GIB if stages is None else 0.0,
        engine_version=engine.version,
    )


def sharing_ranks(engine: Engine, shape: ModelShape) -> int:
    """Return how many data-parallel ranks share experts; those of a dense model are engines by themselves."""
    return engine.data_parallel_size if shape.is_moe else 1


def plan_host(
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


def plan_draft_cost(
    cost: CostSpec, draft: ModelShape | None, accelerator: Accelerator, engine: Engine
) -> DraftCost | None:
    """Return what proposing drafts costs in a step; None where no model drafts, or none is priced."""
    speculative = engine.speculative
    if draft is None or speculative is None or cost.kind not in OPERATOR_KINDS:
        return None
    # The drafts' forward passes are part of a step: its host time is counted once.
    timer = plan_timers(cost, draft, accelerator, engine, stages=1)[0]
    return DraftCost(timer, speculative.num_speculative_tokens)


def profile_prompts(timers: list[ExplainableTimer], longest: int) -> tuple[tuple[int, float], ...]:
    """Return how many seconds prompts of 1, 2, 4, ... tokens take alone, through all stages."""
    lengths = [1 << power for power in range((longest - 1).bit_length() + 1)]
    return tuple(
        (tokens, sum(timer.batch_ns(0, 0, 0, [Chunk(tokens, 0)], 1) for timer in timers) / 1e9)
        for tokens in lengths
    )
