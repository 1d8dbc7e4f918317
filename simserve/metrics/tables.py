"""The tables of a run as Arrow tables: a row a request, a stretch of steps, or a step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from simserve.metrics import arrow
from simserve.metrics.columns import Ints, RequestColumns, as_ints, joined, stretch_times
from simserve.metrics.latency import e2el_ns, tpot_ns
from simserve.metrics.record import RequestLog, StepLog


def requests_table(log: RequestLog, columns: RequestColumns) -> pa.Table:
    """Return a row a request, in the order of the log; times that do not exist are null.

    `instance` is the number of the engine, `rank` its data-parallel rank: each rank is an engine with a
    number of its own. Both are -1 for a request that never reached one.
    `tpot_s` is null for completed requests of one token.
    """
    first_token = columns.first_token_ns()
    has_token, done = columns.first_token_step >= 0, columns.completed
    ttft, e2el = first_token - columns.arrival_ns, e2el_ns(columns)
    return arrow.table(
        {
            "request_id": arrow.ints(columns.request_id),
            "session": arrow.labels(log.session),
            "tenant": arrow.labels(log.tenant),
            "arrival_s": arrow.seconds(columns.arrival_ns),
            "prompt_tokens": arrow.small_ints(columns.prompt_tokens),
            "output_tokens": arrow.small_ints(columns.output_tokens),
            "cached_tokens": arrow.small_ints(columns.cached_tokens),
            "instance": arrow.small_ints(columns.instance),
            "rank": arrow.small_ints(_ranks(columns.steps.logs)[columns.instance]),
            "first_scheduled_s": arrow.seconds(columns.first_scheduled_ns(), columns.first_step >= 0),
            "first_token_s": arrow.seconds(first_token, has_token),
            "finish_s": arrow.seconds(columns.end_ns, columns.end_ns >= 0),
            "ttft_s": arrow.seconds(ttft, has_token),
            "tpot_s": arrow.seconds(tpot_ns(columns, ttft, e2el), done & (columns.output_tokens > 1)),
            "e2el_s": arrow.seconds(e2el, done),
            "preemptions": arrow.small_ints(columns.preemptions),
            "status": arrow.labels(log.status),
            "reason": arrow.labels(log.reason),
            "slo_class": arrow.labels(log.slo_class),
        }
    )


def steps_table(logs: Sequence[StepLog]) -> pa.Table:
    """Return a row a stretch of steps with the same batch, by instance; the state is that of its start."""
    ordered = sorted(logs, key=lambda log: log.instance)
    times = [stretch_times(log) for log in ordered]
    return arrow.table(
        {
            "instance": arrow.small_ints(_instances(ordered, [len(log.steps) for log in ordered])),
            "start_s": arrow.seconds(joined([start for start, _ in times])),
            "end_s": arrow.seconds(joined([end for _, end in times])),
            "steps": arrow.small_ints(_column(ordered, "steps")),
            "prefill_tokens": arrow.small_ints(_column(ordered, "prefill_tokens")),
            "decode_tokens": arrow.small_ints(_column(ordered, "decode_tokens")),
            "running": arrow.small_ints(_column(ordered, "running")),
            "waiting": arrow.small_ints(_column(ordered, "waiting")),
            "kv_used_blocks": arrow.ints(_column(ordered, "used_blocks")),
            "kv_cached_blocks": arrow.ints(_column(ordered, "cached_blocks")),
        }
    )


def step_times_table(logs: Sequence[StepLog]) -> pa.Table:
    """Return a row a step, by instance: when it ended."""
    ordered = sorted(logs, key=lambda log: log.instance)
    sizes = [len(log.end_ns) for log in ordered]
    return arrow.table(
        {
            "instance": arrow.small_ints(_instances(ordered, sizes)),
            "step": arrow.small_ints(joined([np.arange(size, dtype=np.int64) for size in sizes])),
            "end_s": arrow.seconds(_column(ordered, "end_ns")),
        }
    )


def _instances(logs: Sequence[StepLog], sizes: Sequence[int]) -> Ints:
    return np.repeat(np.array([log.instance for log in logs], dtype=np.int64), sizes)


def _ranks(logs: Sequence[StepLog]) -> Ints:
    """Return the rank of each engine by number; the last entry is -1, which is what number -1 finds."""
    ranks = np.full((logs[-1].instance if logs else -1) + 2, -1, dtype=np.int64)
    for log in logs:
        ranks[log.instance] = log.rank
    return ranks


def _column(logs: Sequence[StepLog], name: str) -> Ints:
    return joined([as_ints(getattr(log, name)) for log in logs])
