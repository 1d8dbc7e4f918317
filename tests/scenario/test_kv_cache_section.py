"""The `kv_cache:` section: what engines get from it, what is refused, what means nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from simserve.errors import InputError
from simserve.kvcache.radix_pages import RadixPages
from simserve.kvcache.tiered_cache import TieredCache
from simserve.metrics.result import Result
from simserve.scenario.checks import check_scenario
from simserve.scenario.engine_build import plan_engine
from simserve.scenario.loader import load_scenario
from simserve.scenario.schema import Scenario
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
        ({"kv_cache": {"tiers": [{"name": "host"}]}}, "capacity_gib"),
    ],
)
def test_what_cannot_work_is_refused(engine: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        plan_engine(scenario(**engine), 0)


@pytest.mark.parametrize(
    ("engine", "warning"),
    [
        ({"kind": "vllm", "kv_cache": {"tiers": [HOST]}}, "tiers means nothing for kind 'vllm'"),
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


def test_radix_pages_of_one_token_hit_most() -> None:
    wide = {"num_gpu_blocks_override": 20_000}
    blocks = run(**wide)
    radix = run(kv_cache="radix", **wide)
    tokens = run(kv_cache="radix", block_size=1, num_gpu_blocks_override=320_000)
    assert radix.summary["prefix_cache_hit_rate"] == blocks.summary["prefix_cache_hit_rate"]
    assert tokens.summary["prefix_cache_hit_rate"] > blocks.summary["prefix_cache_hit_rate"]
