"""What the figures need to know of a pool, and the energy and the cost of the run that follow from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

import numpy as np

from simserve.metrics.columns import stretch_times
from simserve.metrics.record import StepLog


@dataclass(frozen=True, slots=True)
class PoolInfo:
    """One pool of equal instances.

    Attributes:
        name: The pool's name in the scenario.
        instances: Numbers of its engines, as in the step logs: an instance with data parallelism is an engine
            for each rank.
        hardware, model: Catalog names.
        engine: The engine's kind, with the release where the kind is vLLM's scheduler ("vllm 0.19").
        tensor_parallel_size, pipeline_parallel_size, data_parallel_size: Of one instance.
        accelerators: Accelerators of one engine.
        max_num_seqs: Seats of one instance's scheduler; None where the engine has no such limit.
        max_num_batched_tokens: Token budget of a step; None where the engine has no such limit.
        joins_running: Whether a request can join others that run; else it waits for their batch to end.
        idle_power_w, busy_power_w: Power of one instance without and with a step executing; None unknown.
        price_usd_per_hour: Price of one instance; None unknown.
        kv_block_tokens: Tokens of a KV block.
        memory: What fills the fullest GPU, in bytes by name; empty unknown.
    """

    name: str
    instances: tuple[int, ...]
    hardware: str = ""
    model: str = ""
    engine: str = ""
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    data_parallel_size: int = 1
    accelerators: int = 1
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    joins_running: bool = True
    idle_power_w: float | None = None
    busy_power_w: float | None = None
    price_usd_per_hour: float | None = None
    kv_block_tokens: int = 0
    memory: Mapping[str, int] = field(default_factory=dict)


def describe_pools(pools: Sequence[PoolInfo], logs: Sequence[StepLog]) -> list[dict[str, Any]]:
    """Return what each pool is made of, for reports: its engines' numbers, and the KV memory of each."""
    blocks = {log.instance: log.num_blocks for log in logs}
    return [
        {
            "name": pool.name,
            "hardware": pool.hardware,
            "model": pool.model,
            "engine": pool.engine,
            "instances": list(pool.instances),
            "accelerators": pool.accelerators * len(pool.instances),
            "tensor_parallel_size": pool.tensor_parallel_size,
            "pipeline_parallel_size": pool.pipeline_parallel_size,
            "data_parallel_size": pool.data_parallel_size,
            "max_num_seqs": pool.max_num_seqs,
            "max_num_batched_tokens": pool.max_num_batched_tokens,
            "kv_blocks": max((blocks.get(instance, 0) for instance in pool.instances), default=0),
            "kv_block_tokens": pool.kv_block_tokens,
            "memory": dict(pool.memory) or None,
        }
        for pool in pools
    ]


def busy_seconds(log: StepLog, begin_s: float = 0.0, end_s: float = inf) -> float:
    """Return for how long an instance was executing steps; overlapping stretches (a pipeline) count once.

    Args:
        log: Of the instance.
        begin_s, end_s: What is before and after does not count.
    """
    start, end = (np.clip(times, begin_s * 1e9, end_s * 1e9) for times in stretch_times(log))
    if not len(start):
        return 0.0
    until = np.concatenate((start[:1], np.maximum.accumulate(end)[:-1]))
    return float(np.maximum(end - np.maximum(start, until), 0).sum()) / 1e9


def energy_joules(
    pools: Sequence[PoolInfo], logs: Sequence[StepLog], end_s: float, begin_s: float = 0.0
) -> float | None:
    """Return the energy of all instances over (a part of) the run; None where a pool's power is unknown."""
    busy = {log.instance: log for log in logs}
    total = 0.0
    for pool in pools:
        if pool.idle_power_w is None or pool.busy_power_w is None:
            return None
        for instance in pool.instances:
            busy_s = busy_seconds(busy[instance], begin_s, end_s) if instance in busy else 0.0
            total += busy_s * pool.busy_power_w + max(end_s - begin_s - busy_s, 0.0) * pool.idle_power_w
    return total if pools else None


def cost_usd(pools: Sequence[PoolInfo], duration_s: float) -> float | None:
    """Return what the instances cost for the run's duration; None where a pool's price is unknown."""
    total = 0.0
    for pool in pools:
        if pool.price_usd_per_hour is None:
            return None
        total += len(pool.instances) * pool.price_usd_per_hour * duration_s / 3600
    return total if pools else None
