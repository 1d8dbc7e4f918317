"""The `kv_cache:` section: what engines get from it, what is refused, what means nothing."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from simserve.cost.simple import ConstantTimer, LinearTimer
from simserve.cost.timer import Chunk
from simserve.errors import InputError
from simserve.kvcache.radix_pages import RadixPages
from simserve.kvcache.tiered_cache import TieredCache
from simserve.metrics.result import Result
from simserve.scenario.checks import check_scenario
from simserve.scenario.engine_build import plan_engine
from simserve.scenario.eviction_build import find_linear_context
from simserve.scenario.loader import load_scenario
from simserve.scenario.schema import Cost, Scenario
from simserve.simulation import simulate

HOST = {"name": "host", "capacity_gib": 4}
SLOW = {"name": "disk", "capacity_gib": 100, "read_gb_per_s": 0.02}


def scenario(kind: str = "sarathi", requests: int = 60, **engine: Any) -> Scenario:
    """Chats on an H100 with room for two of them."""
    text = {
        "model": "llama-3.1-8b",
        "workload": {
            "arrivals": 4,
            "prompt_tokens": 1500,
            "output_tokens": 20,
            "requests": requests,
            "sessions": {"turns": 5, "new_tokens": 100, "think_time_s": 2},
        },
        "pools": {
            "hardware": "h100-sxm",
            "engine": {
                "kind": kind,
                "max_model_len": 4096,
                "num_gpu_blocks_override": 320,
                "max_num_batched_tokens": 2048,
                **engine,
            },
        },
    }
    return load_scenario(json.dumps(text))


def build_cache(loaded: Scenario) -> Any:
    return plan_engine(loaded, 0).build_scheduler(jump=True).cache  # type: ignore[attr-defined]


def test_the_short_form_names_the_cache() -> None:
    cache = build_cache(scenario(kv_cache="radix", block_size=1, num_gpu_blocks_override=5000))
    assert isinstance(cache, RadixPages)
    assert (cache.block_size, cache.pool.num_free) == (1, 4999)


def test_eviction_and_its_options_reach_the_tree() -> None:
    section = {"kind": "radix", "eviction": "ttl", "options": {"ttl_s": 7.0}}
    cache = build_cache(scenario(kv_cache=section))
    assert cache.expires
    assert cache.tree._eviction.ttl_ns == 7_000_000_000


COST = {"kind": "radix", "eviction": "cost"}


def test_eviction_by_cost_knows_the_model_and_the_hardware() -> None:
    position = find_linear_context_of(scenario(kv_cache=COST))
    # By FLOPs alone parameters / (2 x layers x width); attention reaches a smaller part of the peak.
    assert 0.5 * 30_600 < position < 30_600
    # It hangs little on how large the chunks are.
    assert find_linear_context_of(scenario(kv_cache=COST, max_num_batched_tokens=512)) == pytest.approx(
        position, rel=0.1
    )
    tree = plan_engine(scenario("sglang", options={"radix_eviction_policy": "cost"}), 0)
    scheduler: Any = tree.build_scheduler(jump=True)
    assert scheduler.pool.tree._eviction.linear_context_tokens == pytest.approx(position, rel=0.05)


def test_what_the_scenario_says_goes_before_what_is_derived() -> None:
    section = COST | {"options": {"linear_context_tokens": 123.0}}
    assert find_linear_context_of(scenario(kv_cache=section)) == 123.0


def find_linear_context_of(loaded: Scenario) -> float:
    position: float = build_cache(loaded).tree._eviction.linear_context_tokens
    return position


@pytest.mark.parametrize(("chunk", "longest"), [(256, 10_000), (2048, 4096), (1, 1)])
def test_the_position_follows_from_two_prices(chunk: int, longest: int) -> None:
    class Stage(LinearTimer):
        """A token costs 5 us, and each that attention reads for it 1 ns."""

        def batch_ns(self, decodes: int, context: int, window: int, chunks: list[Chunk], samples: int) -> int:
            ((tokens, history),) = chunks
            return 5000 * tokens + tokens * history + tokens * tokens // 2

    stages = [Stage(0.0), Stage(0.0)]
    assert find_linear_context(stages, chunk, longest) == pytest.approx(5000, rel=1e-3)


def test_where_a_context_costs_nothing_no_position_is_dearer() -> None:
    assert find_linear_context([ConstantTimer(0.01)], 2048, 8192) == math.inf
    loaded = scenario(kv_cache=COST).model_copy(update={"cost": Cost(kind="constant", base_s=0.01)})
    assert find_linear_context_of(loaded) == math.inf
    assert simulate(loaded).summary["completed"] == 60


def test_tiers_are_sized_for_all_gpus_and_read_by_each() -> None:
    # Llama 3.1 8B: 32 layers x 2 x 8 heads x 128 x 2 bytes = 128 KiB a token.
    section = {"tiers": [HOST, SLOW], "chunk_tokens": 64}
    loaded = scenario(kv_cache=section, tensor_parallel_size=2)
    cache = build_cache(loaded)
    assert isinstance(cache, TieredCache)
    host, disk = cache.stack.tiers
    assert cache.stack.chunk_bytes == 64 * 128 * 1024
    assert host.capacity == 4 * 2**30 // cache.stack.chunk_bytes
    assert disk.spec.read_bytes_per_s == 2e7
    plan = plan_engine(loaded, 0)
    assert host.spec.read_bytes_per_s == plan.accelerator.pcie_bytes_per_s
    assert plan.config.cache is not None
    assert plan.config.cache.tiers is not None
    assert plan.config.cache.tiers.gpus == 2
    assert plan.config.cache.tiers.own_paths == (False, True)


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ({"kind": "vllm", "kv_cache": "radix"}, "does not work with engine kind 'vllm'"),
        ({"kind": "orca", "kv_cache": "radix"}, "one of its own \\(contiguous\\)"),
        ({"kind": "sglang", "kv_cache": "paged"}, "sarathi"),
        ({"kv_cache": {"kind": "radix", "eviction": "lrv"}}, "lru"),
        ({"kv_cache": {"kind": "radix", "options": {"depth": 3}}}, "option of LRU"),
        ({"kv_cache": {"tiers": [HOST | {"write": "back"}]}}, "expected radix"),
        ({"kv_cache": {"tiers": [HOST, HOST]}}, "is taken"),
        ({"kv_cache": {"tiers": [HOST | {"name": "gpu"}]}}, "is taken"),
        ({"kv_cache": {"tiers": [HOST | {"latency_s": 1.0}]}}, "read_gb_per_s of their own"),
        ({"kv_cache": {"tiers": [HOST | {"write_gb_per_s": 1.0}]}}, "read_gb_per_s of their own"),
        ({"kv_cache": {"tiers": [{"name": "host"}]}}, "capacity_gib"),
        ({"kind": "lightllm", "kv_cache": {"tiers": [HOST], "load": "async"}}, "blocking or layerwise"),
    ],
)
def test_what_cannot_work_is_refused(engine: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        plan_engine(scenario(**engine), 0)


@pytest.mark.parametrize(
    ("engine", "warning"),
    [
        ({"kind": "orca", "kv_cache": {"tiers": [HOST]}}, "tiers means nothing for kind 'orca'"),
        ({"kv_cache": {"kind": "radix", "load": "async"}}, "load means nothing without tiers"),
        ({"kind": "sglang", "kv_cache": {"eviction": "lfu"}}, "eviction means nothing for kind 'sglang'"),
        ({"kv_cache": {"eviction": "lfu"}}, "eviction means nothing for kv_cache 'paged'"),
        ({"kv_cache": {"kind": "radix", "fetch": "always"}}, "fetch means nothing without tiers"),
        (
            {"kv_cache": {"tiers": [HOST]}, "enable_prefix_caching": False},
            "tiers keep prefixes although enable_prefix_caching is false",
        ),
    ],
)
def test_what_means_nothing_is_said(engine: dict[str, Any], warning: str) -> None:
    loaded = scenario(**engine)
    assert [text for text in check_scenario(loaded) if text.endswith(warning)]
    plan_engine(loaded, 0)


def test_a_kinds_own_cache_may_be_named() -> None:
    for kind, cache in (("vllm", "paged"), ("sglang", "radix")):
        loaded = scenario(kind=kind, kv_cache=cache)
        assert not [text for text in check_scenario(loaded) if "kv_cache" in text]
        plan_engine(loaded, 0)


def run(**engine: Any) -> Result:
    return simulate(scenario(requests=200, **engine), check=True)


def test_tiers_bring_back_what_the_gpu_has_dropped() -> None:
    alone = run()
    tiered = run(kv_cache={"tiers": [HOST | {"capacity_gib": 64}], "chunk_tokens": 64})
    counts = tiered.summary["kv_tiers"]["host"]
    assert "kv_tiers" not in alone.summary
    assert tiered.summary["prefix_cache_hit_rate"] > alone.summary["prefix_cache_hit_rate"] + 0.2
    assert tiered.summary["mean_ttft_ms"] < alone.summary["mean_ttft_ms"]
    assert counts["read_bytes"] == counts["hit_chunks"] * 64 * 128 * 1024 > 0
    assert 0 < counts["hit_rate"] < 1


def test_a_slow_tier_is_left_alone_unless_one_insists() -> None:
    section: dict[str, Any] = {"tiers": [SLOW], "chunk_tokens": 64}
    alone = run()
    faster = run(kv_cache=section)
    always = run(kv_cache=section | {"fetch": "always"})
    assert faster.summary["kv_tiers"]["disk"]["read_bytes"] == 0
    assert faster.summary["kv_tiers"]["disk"]["hit_chunks"] > 0
    assert faster.summary["mean_ttft_ms"] == alone.summary["mean_ttft_ms"]
    # 64 tokens of 128 KiB at 20 MB/s take 0.4 s.
    assert always.summary["mean_ttft_ms"] > 5 * alone.summary["mean_ttft_ms"]


def test_a_write_rate_bounds_what_a_drive_takes_in() -> None:
    tiers = [HOST | {"capacity_gib": 1}, SLOW | {"read_gb_per_s": 5, "write": "back"}]
    paths = {}
    for rate in (5.0, 0.05):
        tiers[1]["write_gb_per_s"] = rate
        summary = run(kv_cache={"tiers": tiers, "chunk_tokens": 64}).summary
        paths[rate] = summary["kv_paths"]
        least_s = summary["kv_tiers"]["disk"]["written_bytes"] / (rate * 1e9)
        took_s = paths[rate]["disk_write"]["busy_s"]
        if rate > 1:
            assert took_s == pytest.approx(least_s, rel=1e-3)
        else:  # at the end most of the writes still wait for the path
            assert took_s < 0.5 * least_s
        share = paths[rate]["disk_write"]["busy_share"]
        assert share == pytest.approx(took_s / summary["duration"], rel=0.01)
    assert 1 >= paths[0.05]["disk_write"]["busy_share"] > 0.9
    assert paths[5.0]["disk_write"]["busy_share"] < 0.1
    assert paths[0.05]["to_host"]["busy_s"] < 1


def test_requests_that_wait_apart_hold_up_nobody() -> None:
    section: dict[str, Any] = {"tiers": [SLOW | {"read_gb_per_s": 1}], "chunk_tokens": 64, "fetch": "always"}
    tpot = {}
    for load in ("blocking", "layerwise", "async"):
        summary = run(kv_cache=section | {"load": load}).summary
        tpot[load] = summary["mean_tpot_ms"]
        assert summary["kv_tiers"]["disk"]["read_bytes"] > 0
    assert tpot["async"] < 0.7 * tpot["blocking"]
    assert tpot["layerwise"] < tpot["blocking"]


def test_radix_pages_of_one_token_hit_most() -> None:
    wide = {"num_gpu_blocks_override": 20_000}
    blocks = run(**wide)
    radix = run(kv_cache="radix", **wide)
    tokens = run(kv_cache="radix", block_size=1, num_gpu_blocks_override=320_000)
    assert radix.summary["prefix_cache_hit_rate"] == blocks.summary["prefix_cache_hit_rate"]
    assert tokens.summary["prefix_cache_hit_rate"] > blocks.summary["prefix_cache_hit_rate"]
