"""`kind: sglang` in a scenario: its options, what vLLM's keys mean to it, and its memory."""

from __future__ import annotations

from typing import Any

import pytest

from simserve import load_scenario, simulate
from simserve.errors import InputError
from simserve.scenario.checks import check_scenario
from simserve.scenario.engine_build import plan_engine
from simserve.scenario.engine_plan import EnginePlan
from simserve.scenario.loader import scenario_names
from simserve.scheduler.sglang.config import SglangConfig

SCENARIO = (
    "model: llama-3.1-8b\n"
    "workload: {arrivals: 10, prompt_tokens: 100, output_tokens: 5, requests: 20}\n"
    "pools: {hardware: HARDWARE, engine: {kind: sglang}}\n"
)


def plan(*overrides: str, hardware: str = "h100-sxm") -> EnginePlan:
    keys = [f"pools.0.engine.{override}" for override in overrides]
    return plan_engine(load_scenario(SCENARIO.replace("HARDWARE", hardware), keys), 0)


def config_of(*overrides: str, hardware: str = "h100-sxm") -> SglangConfig:
    config = plan(*overrides, hardware=hardware).build_scheduler(jump=True).config
    assert isinstance(config, SglangConfig)
    return config


@pytest.mark.parametrize(
    ("hardware", "chunk", "fraction"),
    [("h100-sxm", 8192, 0.829), ("l40s", 4096, None), ("h200-sxm", 8192, None)],
)
def test_defaults_follow_from_the_memory(hardware: str, chunk: int, fraction: float | None) -> None:
    made = plan(hardware=hardware)
    config = made.build_scheduler(jump=True).config
    assert config.chunked_prefill_size == chunk
    assert (config.page_size, config.max_prefill_tokens, config.schedule_policy) == (1, 16384, "fcfs")
    assert (config.disable_overlap_schedule, config.disable_radix_cache) == (False, False)
    assert config.max_running_requests == 2048
    assert config.pool_tokens == made.memory.num_gpu_blocks - 1
    assert made.config.async_scheduling
    if fraction is not None:
        assert made.memory.gpu_memory_utilization == fraction


def test_the_static_fraction_leaves_activations_outside() -> None:
    own, shared = plan().memory, plan("gpu_memory_utilization=0.829").memory
    assert own.activation_bytes == 0
    assert shared.activation_bytes > 0
    assert own.kv_bytes == shared.kv_bytes + shared.activation_bytes
    explicit = plan("options.mem_fraction_static=0.7").memory
    assert explicit.gpu_memory_utilization == 0.7
    assert explicit.activation_bytes == 0


@pytest.mark.parametrize(
    ("override", "option", "value"),
    [
        ("max_num_seqs=17", "max_running_requests", 17),
        ("max_num_batched_tokens=3000", "chunked_prefill_size", 3000),
        ("enable_chunked_prefill=false", "chunked_prefill_size", None),
        ("options={chunked_prefill_size: -1}", "chunked_prefill_size", None),
        ("enable_prefix_caching=false", "disable_radix_cache", True),
        ("async_scheduling=false", "disable_overlap_schedule", True),
        ("scheduling_policy=priority", "enable_priority_scheduling", True),
        ("scheduling_policy=priority", "schedule_low_priority_values_first", True),
        ("block_size=32", "page_size", 32),
        ("options={schedule_policy: dfs-weight}", "schedule_policy", "dfs-weight"),
        ("options={radix_eviction_policy: slru}", "radix_eviction_policy", "slru"),
        ("options={max_running_requests: 9}", "max_running_requests", 9),
        ("max_model_len=5000", "context_len", 5000),
        ("pipeline_parallel_size=4", "queue_depth", 4),
        ("pipeline_parallel_size=4", "micro_batch_size", 512),
        ("num_gpu_blocks_override=1001", "pool_tokens", 16000),
        ("options={max_total_tokens: 5003, page_size: 16}", "pool_tokens", 4992),
    ],
)
def test_keys_and_options_reach_the_scheduler(override: str, option: str, value: Any) -> None:
    assert getattr(config_of(override), option) == value


def test_an_option_goes_before_vllms_key() -> None:
    config = config_of("max_num_seqs=17", "options={max_running_requests: 9, enable_mixed_chunk: true}")
    assert config.max_running_requests == 9
    assert config.is_mixed


def test_the_random_order_is_drawn_from_the_scenarios_seed() -> None:
    scenario = load_scenario(SCENARIO.replace("HARDWARE", "h100-sxm"), ["seed=5"])
    assert plan_engine(scenario, 0).build_scheduler(jump=True).config.random_seed == 5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "options={schedule_polizy: lpm}",
            "unknown option of engine kind 'sglang' 'schedule_polizy'; did you mean",
        ),
        ("options={schedule_policy: lmp}", "schedule_policy 'lmp' is unknown; valid: lpm"),
        ("options={radix_eviction_policy: lra}", "unknown eviction 'lra'"),
        ("order={policy: sjf}", "order 'sjf' does not work with engine kind 'sglang'"),
    ],
)
def test_what_cannot_work_is_refused(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        config_of(override)


def test_keys_without_a_meaning_are_warnings() -> None:
    keys = ["pools.0.engine.long_prefill_token_threshold=100"]
    (warning,) = check_scenario(load_scenario(SCENARIO.replace("HARDWARE", "h100-sxm"), keys))
    assert warning == "pools.0.engine.long_prefill_token_threshold means nothing for kind 'sglang'"


@pytest.mark.parametrize("name", [name for name in scenario_names() if "/" not in name])
def test_it_runs_the_shipped_scenarios(name: str) -> None:
    """All but one, which asks for an order that it cannot have."""
    scenario = load_scenario(f"scenarios/{name}.yaml")
    overrides = [f"pools.{index}.engine.kind=sglang" for index in range(len(scenario.pools))]
    limit = "workload.requests=10" if scenario.workload.trace is None else "workload.trace.limit=10"
    loaded = load_scenario(f"scenarios/{name}.yaml", [*overrides, limit])
    if name == "fair-share":
        with pytest.raises(InputError, match="does not work with engine kind 'sglang'"):
            simulate(loaded)
        return
    result = simulate(loaded, check=True)
    assert result.summary["completed"] == 10


def test_it_serves() -> None:
    result = simulate(load_scenario(SCENARIO.replace("HARDWARE", "h100-sxm")), check=True)
    assert result.summary["completed"] == 20
    assert result.summary["total_output_tokens"] == 100


HOST = "kv_cache={tiers: [{name: host, capacity_gib: 8, write: back}], chunk_tokens: 64}"


def test_tiers_stand_behind_its_own_tree() -> None:
    config = config_of(
        HOST, "tensor_parallel_size=2", "options={hicache_storage_prefetch_policy: best_effort}"
    )
    tiers = config.tiers
    assert tiers is not None
    assert (tiers.load, tiers.layers, tiers.gpus, tiers.chunk_tokens) == ("layerwise", 32, 2, 64)
    assert tiers.specs[0].capacity_bytes == 8 * 2**30
    assert config.hicache_storage_prefetch_policy == "best_effort"
    assert config_of("kv_cache=radix").tiers is None
    with pytest.raises(InputError, match="expected layerwise or blocking"):
        plan("kv_cache={tiers: [{name: host, capacity_gib: 8}], load: async}")


def test_what_it_always_does_with_tiers_is_a_warning() -> None:
    keys = [f"pools.0.engine.{HOST}", "pools.0.engine.kv_cache.fetch=always"]
    warnings = check_scenario(load_scenario(SCENARIO.replace("HARDWARE", "h100-sxm"), keys))
    assert warnings == ["pools.0.engine.kv_cache.fetch means nothing for kind 'sglang'"]
