"""From the record of a simulated run to the latencies that its client, or its engine's queue, saw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simserve.metrics.columns import FlatSteps, Floats, Ints, RequestColumns
from simserve.metrics.latency import e2el_ns, inter_token_gaps, ttft_ns
from simserve.metrics.result import Result
from simserve.study.measured import Latencies

_NS = 1e-9


@dataclass(frozen=True, eq=False)
class Served:
    """What the simulation gave.

    Attributes:
        latencies: Of its requests, by id: the order of the workload.
        cached_tokens: `[n]` prompt tokens found in the prefix cache.
        failed: Requests that did not complete.
        preemptions: Of all requests.
    """

    latencies: Latencies
    cached_tokens: Ints
    failed: int
    preemptions: int


def read_served(result: Result, due_s: Floats, *, queued: bool, overhead_s: float) -> Served:
    """Return the latencies of a finished simulation.

    Args:
        result: What `simulate` gave; its request i was due at `due_s[i]`.
        due_s: `[n]`.
        queued: Count from the engine's queue, not from the client's sending.
        overhead_s: Time of client and server in front of and behind the engine, added to each TTFT and E2EL.
    """
    columns = RequestColumns.of(result.requests, result.steps)
    order = np.argsort(columns.request_id, kind="stable")
    done = columns.completed
    begun = _queued_ns(columns) if queued else columns.arrival_ns
    late = (begun - columns.arrival_ns) * _NS
    ttft = np.where(done, ttft_ns(columns) * _NS - late + overhead_s, np.nan)
    e2el = np.where(done, e2el_ns(columns) * _NS - late + overhead_s, np.nan)
    gaps, counts = inter_token_gaps(columns, result.requests.token_steps, done)
    start = due_s if queued else columns.arrival_ns[order] * _NS
    latencies = Latencies(
        due_s,
        np.asarray(start),
        ttft[order],
        e2el[order],
        columns.output_tokens[order],
        np.asarray(gaps * _NS),
        counts,
    )
    failed = int(len(columns) - done.sum())
    return Served(latencies, columns.cached_tokens[order], failed, int(columns.preemptions.sum()))


def _queued_ns(columns: RequestColumns) -> Ints:
    """Return `[n]` when the engine took each request into its queue: its loop's next look at its input.

    A loop that waits for a batch looks when the batch ends; one that waits for a request looks at once.
    """
    taken = columns.arrival_ns.copy()
    for log, rows in columns.rows_by_instance():
        steps = FlatSteps.of([log])
        first = int(steps.offset[log.instance])
        ends = steps.end_ns[first:]
        arrival = columns.arrival_ns[rows]
        following = np.searchsorted(ends, arrival, side="left")
        inside = np.flatnonzero(following < len(ends))
        index = following[inside] + first
        busy = steps.start_ns(index) < arrival[inside]
        taken[rows[inside[busy]]] = ends[following[inside[busy]]]
    return taken
