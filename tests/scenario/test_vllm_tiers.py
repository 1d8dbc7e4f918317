"""Tiers behind vLLM's KV pool, as a scenario asks for them."""

from __future__ import annotations

from typing import Any

import pytest

from simserve.data_files import find_file
from simserve.errors import InputError
from simserve.metrics.result import Result
from simserve.scenario.engine_build import plan_engine
from simserve.scenario.loader import load_scenario
from simserve.scenario.schema import Scenario
from simserve.simulation import simulate

ENGINE = "pools.0.engine"


def load(*settings: str) -> Scenario:
    """The shipped example on `kind: vllm`, with fewer chats and a smaller KV pool."""
    return load_scenario(
        find_file("scenarios/kv-tiers.yaml"),
        [
            f"{ENGINE}.kind=vllm",
            f"{ENGINE}.num_gpu_blocks_override=2100",
            "workload.requests=60",
            *settings,
        ],
    )


def run(*settings: str) -> Result:
    return simulate(load(*settings))


def test_what_tiers_hold_is_loaded_beside_the_steps_by_default() -> None:
    scenario = load()
    cache = plan_engine(scenario, 0).config.cache
    assert cache is not None
    assert cache.tiers is not None
    assert cache.tiers.load == "async"
    summary: dict[str, Any] = simulate(scenario).summary
    assert summary["completed"] == 60
    assert summary["kv_tiers"]["host"]["read_bytes"] > 0
    bare = run(f"{ENGINE}.kv_cache.tiers=[]").summary
    assert summary["prefix_cache_hit_rate"] > bare["prefix_cache_hit_rate"] + 0.1
    assert summary["mean_ttft_ms"] < bare["mean_ttft_ms"]


def test_a_slow_tier_holds_up_who_decodes_only_where_steps_wait_for_it() -> None:
    slow = (
        f"{ENGINE}.kv_cache.tiers.0.read_gb_per_s=2",
        f"{ENGINE}.kv_cache.fetch=always",
    )
    beside = run(*slow).summary
    before = run(*slow, f"{ENGINE}.kv_cache.load=blocking").summary
    assert beside["std_itl_ms"] < before["std_itl_ms"] / 2


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (f"{ENGINE}.kv_cache.chunk_tokens=100", "no multiple of block_size 16"),
        (f"{ENGINE}.kv_cache.tiers.0.write=back", "radix"),
        (f"{ENGINE}.kv_cache.kind=radix", "'radix' does not work with engine kind 'vllm'"),
        ("model=gemma-2-9b", "sliding-window"),
    ],
)
def test_what_cannot_work_is_refused(setting: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(setting, f"{ENGINE}.max_model_len=8192")
