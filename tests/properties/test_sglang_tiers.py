"""SGLang's engine with memory behind the GPU's: jumps equal steps, and no token is lost between the tiers."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from random_scenarios import check

from simserve.errors import IntegrityError, SimulationError
from simserve.kvcache.cache_plan import TierPlan
from simserve.kvcache.radix_host_copies import HostCopies
from simserve.kvcache.radix_host_node import HostedNode
from simserve.kvcache.tier import TierSpec
from simserve.scheduler.sglang import SglangScheduler
from simserve.scheduler.sglang.row import Row
from simserve.scheduler.sglang.tiered_memory import TieredPool
from simserve.testing.harness import drive
from tests.properties.seeds import seed_groups
from tests.properties.test_sglang_horizon import build_scenario
from tests.properties.test_sglang_scheduler import build_arrivals, build_config

SCENARIOS = 60
GROUP = 10
POLICIES = ["best_effort", "wait_complete", "timeout"]


def build(seed: int) -> dict[str, Any]:
    """Return a random scenario with tiers; its prompts are long enough for storage in a half of them."""
    scenario = build_scenario(seed)
    draw = random.Random(f"tiers {seed}")
    engine = scenario["pools"][0]["engine"]
    options = engine["options"] | {"disable_radix_cache": False}
    workload = scenario["workload"]
    workload["requests"] = 25
    is_long = draw.random() < 0.5
    if is_long:
        engine["max_model_len"] = 1200
        options["max_total_tokens"] = draw.choice([1500, 2400])
        workload["prompt_tokens"] = {"kind": "uniform", "min": 200, "max": 500}
        workload["output_tokens"] = {"kind": "uniform", "min": 1, "max": 60}
        workload["sessions"] = {"turns": 3, "think_time_s": draw.choice([0.01, 0.3])}
        workload.pop("max_tokens", None)
        workload.pop("prefixes", None)
        workload["arrivals"] = 20
    elif "sessions" not in workload:
        workload["prefixes"] = {"groups": 6, "tokens": 40}
    # One GiB holds 8,192 tokens of the 8B model.
    size = 0.4 if is_long else 0.05
    host = {"name": "host", "capacity_gib": size * draw.choice([0.3, 1, 4])}
    host["write"] = draw.choice(["through", "second_use", "back"])
    if draw.random() < 0.7:
        host |= {"read_gb_per_s": draw.choice([0.5, 20.0]), "write_gb_per_s": draw.choice([None, 0.3])}
    disk = {"name": "nvme", "capacity_gib": 10, "write": draw.choice(["through", "back"])}
    disk |= {"read_gb_per_s": draw.choice([0.2, 5.0]), "latency_s": 1e-4}
    engine["kv_cache"] = {
        "tiers": [host, disk][: 2 if is_long else draw.choice([1, 2])],
        "chunk_tokens": draw.choice([16, 64]),
    }
    if draw.random() < 0.2:  # ranks in lock-step
        scenario["model"] = "qwen3-30b-a3b"
        engine |= {"data_parallel_size": 2, "enable_expert_parallel": True, "pipeline_parallel_size": 1}
    engine["options"] = options | {"hicache_storage_prefetch_policy": draw.choice(POLICIES)}
    return scenario


@pytest.mark.parametrize("first", seed_groups(SCENARIOS, GROUP, fast=10))
def test_jumping_equals_stepping(first: int) -> None:
    stretched = 0
    read = {"host": 0, "nvme": 0}
    for seed in range(first, first + GROUP):
        result = check(build(seed))
        stretched += sum(steps for log in result.steps for steps in log.steps if steps > 1)
        for name, tier in result.summary["kv_tiers"].items():
            read[name] += tier["read_bytes"]
    assert stretched > 300, "hardly any stretch was passed: the comparison shows nothing"
    assert min(read.values()) > 0, f"a tier was never read: {read}"


# -- without a clock: what is held where, and mutants that lose some of it -----------------------------------


def drive_tiers(seed: int) -> TieredPool:
    """Drive a scheduler with tiers through a load, its books checked after every pass; return its pool."""
    draw = random.Random(seed)
    host = TierSpec(
        "host", draw.choice([100, 400, 2000]), 1e9, write=draw.choice(["through", "second_use", "back"])
    )
    plan = TierPlan((host,), (False,), bytes_per_token=1, chunk_tokens=16)
    plain = build_config(draw)
    policy = "lpm" if plain.schedule_policy.startswith("shortest") else plain.schedule_policy
    size = plain.page_size * 20 + 200
    config: Any = replace(
        plain, tiers=plan, disable_radix_cache=False, schedule_policy=policy, pool_tokens=size
    )
    scheduler = SglangScheduler(config)
    drive(scheduler, config, build_arrivals(draw), max_iterations=5_000)
    pool = scheduler.pool
    assert isinstance(pool, TieredPool)
    return pool


def test_nothing_is_lost_between_device_and_host() -> None:
    loaded = 0
    for seed in range(40):
        pool = drive_tiers(seed)
        assert pool.free + pool.tree.evictable_tokens + pool.tree.protected_tokens == pool.size
        loaded += pool.counts.read_bytes
        copied = pool.counts.written_bytes - pool.counts.dropped_bytes
        assert copied == pool.tree.host_tokens
    assert loaded > 200


def load_for_nothing(pool: TieredPool, row: Row) -> bool:
    before = pool.free
    is_loaded = LOAD_BACK(pool, row)
    pool.free = before
    return is_loaded


def forget_a_copy(tree: HostCopies, node: HostedNode) -> None:
    node.on_host = False


def unlock_twice(pool: TieredPool, node: HostedNode) -> None:
    NOTE_COPY(pool, node)
    if pool.tree.write != "back":
        pool.tree.unlock(node)


LOAD_BACK, NOTE_COPY = TieredPool.load_back, TieredPool._note_copy


@pytest.mark.parametrize(
    ("owner", "name", "mutant"),
    [
        (TieredPool, "load_back", load_for_nothing),
        (HostCopies, "_release_copy", forget_a_copy),
        (TieredPool, "_note_copy", unlock_twice),
    ],
)
def test_mutants_are_caught(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, mutant: Any) -> None:
    monkeypatch.setattr(owner, name, mutant)

    def drive_all() -> None:
        for seed in range(40):
            drive_tiers(seed)

    with pytest.raises((IntegrityError, AssertionError, SimulationError)):
        drive_all()
