"""What holds a run back, in one line: compute, bandwidth, KV memory or queueing, and what to look at next.

A request that waits for a step does so for one of three reasons, told apart by elimination from the state
on record: every seat is taken or the batch cannot be joined (queueing), the step's token budget is spent (the
step's own time is the limit), or neither. Then the scheduler could not get KV blocks for it, or its policy
held it back though there was room: where a kind tells (`StepLog.short_at_blocks`), blocks were short only
with so many in use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simserve.metrics.columns import as_ints, stretch_times
from simserve.metrics.pools import PoolInfo, busy_seconds
from simserve.metrics.record import StepLog

# Below these shares, waiting is incidental and the step's own time is what matters. They are choices, made
# to keep a short burst from naming the bottleneck of a whole run.
_WAITING_SHARE = 0.1
_PREEMPTED_SHARE = 0.01
# Below this share of the seats, the line says how many are taken.
_TAKEN_SHARE = 0.5

_NEXT = {
    "compute": "a faster or a second accelerator (tensor_parallel_size, replicas) shortens steps",
    "bandwidth": "larger batches or quantized weights and KV use each byte read for more tokens",
    "communication": "a smaller tensor_parallel_size or faster links shorten steps",
    "overhead": "async_scheduling or larger batches spread the host's time over more tokens",
}


@dataclass(frozen=True, slots=True)
class TimeSplit:
    """Where the executed seconds of one instance went, by what bounded each operator."""

    compute_s: float = 0.0
    bandwidth_s: float = 0.0
    communication_s: float = 0.0
    overhead_s: float = 0.0


@dataclass(frozen=True, slots=True)
class WaitingShares:
    """Shares of the busy time in which requests waited, by what they waited for.

    Attributes:
        seats: Every seat (`max_num_seqs`) was taken, or a batch ran that nobody can join.
        budget: The step's tokens (`max_num_batched_tokens`) were spent.
        blocks: Neither: no KV blocks for the next request.
        policy: Nothing of all that: the policy held them back.
    """

    seats: float
    budget: float
    blocks: float
    policy: float


def waiting_shares(pools: Sequence[PoolInfo], logs: Sequence[StepLog]) -> WaitingShares:
    """Return for what requests waited, weighted with the time that the stretches took."""
    pool_of = {instance: pool for pool in pools for instance in pool.instances}
    totals = np.zeros(5)
    for log in logs:
        start, end = stretch_times(log)
        span = (end - start).astype(np.float64)
        pool = pool_of.get(log.instance)
        waits = as_ints(log.waiting) > 0
        tokens = as_ints(log.prefill_tokens) + as_ints(log.decode_tokens)
        running = as_ints(log.running)
        seats = waits & (running >= _limit(pool.max_num_seqs if pool else None))
        if pool is not None and not pool.joins_running:
            seats = waits & (running > 0)
        budget = waits & ~seats & (tokens >= _limit(pool.max_num_batched_tokens if pool else None))
        rest = waits & ~seats & ~budget
        blocks = rest & (as_ints(log.used_blocks) >= (log.short_at_blocks or 0))
        totals += (span.sum(), span @ seats, span @ budget, span @ blocks, span @ (rest & ~blocks))
    busy = max(float(totals[0]), 1.0)
    return WaitingShares(*(float(total) / busy for total in totals[1:]))


def describe_bottleneck(
    pools: Sequence[PoolInfo],
    logs: Sequence[StepLog],
    split: Sequence[TimeSplit],
    *,
    duration_s: float,
    preemptions: int,
    requests: int,
) -> str:
    """Return one line: what bounds the run, by how much, and what to look at next.

    Args:
        pools: The pools, for their limits.
        logs: The step logs of all instances.
        split: Where each instance's time went; empty if the cost model does not tell.
        duration_s: Length of the run.
        preemptions: How often a request lost its KV blocks.
        requests: How many requests there were.
    """
    if not any(len(log.end_ns) for log in logs):
        return "none: no step was executed"
    waiting = waiting_shares(pools, logs)
    others = max(waiting.seats, waiting.policy)
    if waiting.blocks >= max(_WAITING_SHARE, others) or preemptions > _PREEMPTED_SHARE * requests:
        return (
            f"KV memory: requests waited for KV blocks in {waiting.blocks:.0%} of the busy time, "
            f"{preemptions} preemptions; look at kv_cache_dtype, gpu_memory_utilization or more instances"
        )
    if waiting.policy >= max(_WAITING_SHARE, waiting.seats):
        return (
            f"queueing: the policy held requests back in {waiting.policy:.0%} of the busy time, "
            "though seats and KV blocks were free; look at what the scheduler (engine.kind) admits"
        )
    if waiting.seats >= _WAITING_SHARE and not all(pool.joins_running for pool in pools):
        return (
            f"queueing: requests waited for a batch to end in {waiting.seats:.0%} of the busy time; "
            "look at continuous batching (engine.kind) or more replicas"
        )
    if waiting.seats >= _WAITING_SHARE:
        return (
            f"queueing: every seat was taken while requests waited in {waiting.seats:.0%} of the busy time; "
            "look at max_num_seqs or more replicas"
        )
    busy = sum(busy_seconds(log) for log in logs) / max(duration_s * len(logs), 1e-9)
    return _step_time_line(split, busy, waiting.budget, _free_seats(pools, logs))


def _free_seats(pools: Sequence[PoolInfo], logs: Sequence[StepLog]) -> str:
    """Return the clause on how full steps are, weighted with their time; "" where most seats are taken.

    An instance is busy as soon as one request runs: only with this does "busy" not read as "full".
    """
    seats_of = {instance: pool.max_num_seqs for pool in pools for instance in pool.instances}
    totals = np.zeros(4)
    for log in logs:
        seats = seats_of.get(log.instance)
        if seats is None:
            return ""
        start, end = stretch_times(log)
        span = (end - start).astype(np.float64)
        total = span.sum()
        totals += (total, total * seats, span @ as_ints(log.running), span @ as_ints(log.waiting))
    _, seats, running, waiting = totals / max(totals[0], 1.0)
    if running >= _TAKEN_SHARE * seats:
        return ""
    queue = "none" if waiting == 0 else "under 0.01" if waiting < 0.01 else f"{waiting:.3g}"
    count = f"{running:.3g}"
    plural = "" if count == "1" else "s"
    return f" with on average {count} request{plural} in a step of {seats:,.0f} seats, {queue} waiting"


def _step_time_line(split: Sequence[TimeSplit], busy: float, budget: float, seats: str) -> str:
    backlog = (
        f", the token budget was spent while requests waited in {budget:.0%} of it" if budget >= 0.01 else ""
    )
    state = f"instances are busy {busy:.0%} of the time{seats}{backlog}"
    parts = {
        name: sum(getattr(part, f"{name}_s") for part in split)
        for name in ("compute", "bandwidth", "communication", "overhead")
    }
    total = sum(parts.values())
    if total <= 0:
        return f"step time: {state}; this cost model does not tell compute from bandwidth"
    name, seconds = max(parts.items(), key=lambda part: part[1])
    return f"{name}: it bounds {seconds / total:.0%} of the step time, {state}; {_NEXT[name]}"


def _limit(value: int | None) -> float:
    return float("inf") if value is None else value
