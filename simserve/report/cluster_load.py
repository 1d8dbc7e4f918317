"""How loaded each instance was, interval by interval: what a map of many instances shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from simserve.report.run_folder import Column, Floats, Ints, RunFolder

# What can be shown, and how a value of an interval comes about.
MEASURES = {
    "busy share": "share of the interval in which steps ran",
    "KV use": "most KV blocks held by requests, of all",
    "running": "most requests running",
    "waiting": "most requests waiting",
    "tokens/s": "tokens computed a second, prompts and outputs",
}


@dataclass(frozen=True)
class ClusterLoad:
    """Loads of all instances, those that never ran a step included.

    Attributes:
        edges_s: `[intervals + 1]`, seconds.
        instances: `[n]`, their numbers.
        values: By measure (`MEASURES`), `[n, intervals]`. Busy share and tokens/s are means of the interval,
            the others its greatest value, so that no spike is lost.
    """

    edges_s: Floats
    instances: tuple[int, ...]
    values: Mapping[str, Floats]


def measure_load(run: RunFolder, intervals: int) -> ClusterLoad:
    """Return the loads of a run's instances.

    Args:
        run: The folder of a run.
        intervals: Into how many equal ones its time is cut.

    Raises:
        InputError: If a table of the run cannot be read.
    """
    instances = tuple(number for pool in run.summary["pools"] for number in pool["instances"])
    steps = run.steps
    start, end = steps["start_s"], steps["end_s"]
    edges = np.linspace(0.0, max(float(end.max(initial=0.0)), 1e-9), intervals + 1)
    width = float(edges[1])
    rows, bins = _cut(start, end, width, intervals)
    order = np.argsort(np.array(instances, np.int64), kind="stable")
    place = (
        order[np.searchsorted(np.array(instances), steps["instance"], sorter=order)] if len(rows) else rows
    )
    cells = place[rows] * intervals + bins
    inside = np.minimum(end[rows], edges[bins + 1]) - np.maximum(start[rows], edges[bins])
    inside = np.maximum(inside, 0.0)
    size = len(instances) * intervals
    shape = (len(instances), intervals)
    blocks = {number: pool["kv_blocks"] for pool in run.summary["pools"] for number in pool["instances"]}
    capacity = np.array([max(blocks[number], 1) for number in instances], np.float64)
    tokens = (steps["prefill_tokens"] + steps["decode_tokens"]) * steps["steps"]
    rate = tokens / np.maximum(end - start, 1e-12)
    most = {
        name: _greatest(cells, steps[column][rows], size).reshape(shape)
        for name, column in (("KV use", "kv_used_blocks"), ("running", "running"), ("waiting", "waiting"))
    }
    busy = np.bincount(cells, inside, size).reshape(shape) / width
    values = {
        # Steps of a pipeline overlap.
        "busy share": np.minimum(busy, 1.0),
        "KV use": most["KV use"] / capacity[:, None],
        "running": most["running"],
        "waiting": most["waiting"],
        "tokens/s": np.bincount(cells, inside * rate[rows], size).reshape(shape) / width,
    }
    return ClusterLoad(edges, instances, values)


def _cut(start: Floats, end: Floats, width: float, intervals: int) -> tuple[Ints, Ints]:
    """Return the pieces into which intervals cut the rows: the row and the interval of each."""
    first = np.minimum((start / width).astype(np.int64), intervals - 1)
    last = np.minimum((end / width).astype(np.int64), intervals - 1)
    pieces = last - first + 1
    rows = np.repeat(np.arange(len(start)), pieces)
    return rows, np.arange(len(rows)) - np.repeat(np.cumsum(pieces) - pieces - first, pieces)


def _greatest(cells: Ints, values: Column, size: int) -> Floats:
    table = np.zeros(size)
    np.maximum.at(table, cells, values)
    return table
