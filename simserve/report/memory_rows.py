"""What fills the GPUs of a run and its KV memory, as rows for tables and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from simserve.metrics.writer import KV_MEMORY, PREFIXES
from simserve.report.run_folder import Column, Floats, Ints, RunFolder, Table

# The items of `simserve run --explain memory`, and what they are called here.
_ITEMS = {
    "weight_bytes": "weights",
    "activation_bytes": "activations",
    "runtime_bytes": "runtime",
    "graph_bytes": "CUDA graphs",
}
KV_PEAK, KV_REST, UNUSED, OTHERS = "KV in use, peak", "KV pool, rest", "not used", "left to others"
FILLINGS = (*_ITEMS.values(), KV_PEAK, KV_REST, UNUSED, OTHERS)
# Moments at which the last blocks of all running requests are looked at.
_MOMENTS = 400


def memory_rows(run: RunFolder) -> list[dict[str, Any]]:
    """Return a row for each pool and item that fills its fullest GPU: `pool`, `item`, `bytes`, `share`.

    The KV pool is split at the most blocks that requests of one of its instances held at any time. Pools of
    which the run's summary does not say it are left out.
    """
    rows = []
    for pool in run.summary["pools"]:
        memory = pool.get("memory")
        if not memory:
            continue
        sizes = {name: memory[key] for key, name in _ITEMS.items()}
        of_pool = np.isin(run.steps["instance"], pool["instances"])
        peak = int(run.steps["kv_used_blocks"][of_pool].max(initial=0))
        sizes[KV_PEAK] = peak * memory["block_bytes"]
        sizes[KV_REST] = (pool["kv_blocks"] - peak) * memory["block_bytes"]
        sizes[OTHERS] = memory["left_to_others_bytes"]
        sizes[UNUSED] = max(0, memory["total_bytes"] - sum(sizes.values()))
        rows += [
            {"pool": pool["name"], "item": name, "bytes": sizes[name],
             "share": sizes[name] / memory["total_bytes"]}
            for name in FILLINGS
        ]  # fmt: skip
    return rows


def block_series(run: RunFolder, instance: int | None) -> tuple[Floats, Ints, Ints, int]:
    """Return the KV blocks of an instance, or of all together, at each start of a stretch.

    Args:
        run: The folder of a run.
        instance: Its number; None: all.

    Returns:
        `[n]` moments in seconds, `[n]` blocks that requests hold, `[n]` blocks that nobody holds and that
        have a prefix which can still be found, and how many there are.
    """
    steps = run.steps
    numbers = run.instances if instance is None else [instance]
    total = sum(run.pool_of(each)["kv_blocks"] for each in numbers)
    cached = steps.get("kv_cached_blocks")
    columns = [steps["kv_used_blocks"], np.zeros_like(steps["kv_used_blocks"]) if cached is None else cached]
    if instance is not None:
        rows = run.step_rows.get(instance, np.empty(0, np.int64))
        return steps["start_s"][rows], columns[0][rows], columns[1][rows], total
    order = np.argsort(steps["start_s"], kind="stable")
    sums = []
    for column in columns:
        change = np.empty(len(column), np.int64)
        for rows in run.step_rows.values():
            change[rows] = np.diff(column[rows], prepend=0)
        sums.append(np.cumsum(change[order]))
    return steps["start_s"][order], sums[0], sums[1], total


def last_block_waste(run: RunFolder, instances: Sequence[int]) -> tuple[Floats, Floats]:
    """Return the share of used KV memory that lies behind requests' last tokens, over time.

    Of requests that decode, at moments spread over the steps of each instance: what is still empty of the
    last block of each, over all that the used blocks hold. Prompts that are being computed are left out.

    Returns:
        `[n]` moments in seconds, `[n]` shares; of several instances, those of all in intervals of time.
    """
    spans = _decode_spans(run)
    moments = max(_MOMENTS * 4 // len(instances), 16) if len(instances) > 1 else _MOMENTS
    found = [_sample_waste(run, instance, spans.get(instance), moments) for instance in instances]
    times, empty, used = (np.concatenate(parts) for parts in zip(*found, strict=True))
    if len(instances) == 1 or not len(times):
        return times, empty / np.maximum(used, 1)
    edges = np.linspace(times.min(), times.max(), _MOMENTS // 2 + 1)
    empty, used = (np.histogram(times, edges, weights=values)[0] for values in (empty, used))
    return (edges[:-1] + edges[1:]) / 2, empty / np.maximum(used, 1)


_Spans = tuple[Ints, Ints, Ints]


def _sample_waste(
    run: RunFolder, instance: int, spans: _Spans | None, moments: int
) -> tuple[Floats, Floats, Floats]:
    """Return `[n]` moments of an instance, and the empty and all places for tokens in its used blocks."""
    block = int(run.pool_of(instance).get("kv_block_tokens") or 0)
    ends = run.step_ends.get(instance)
    if ends is None or spans is None or block <= 1:
        return np.empty(0), np.empty(0), np.empty(0)
    first, last, held = spans
    steps = np.unique(np.linspace(0, len(ends) - 1, moments).astype(np.int64))
    rows = run.step_rows[instance]
    begins = np.cumsum(run.steps["steps"][rows]) - run.steps["steps"][rows]
    used = run.steps["kv_used_blocks"][rows][np.searchsorted(begins, steps, side="right") - 1]
    empty = [
        int((-(held[inside] + step - first[inside]) % block).sum())
        for step in steps.tolist()
        for inside in [np.flatnonzero((first <= step) & (last >= step))]
    ]
    return ends[steps], np.array(empty, np.float64), (used * block).astype(np.float64)


def _decode_spans(run: RunFolder) -> dict[int, _Spans]:
    """Return, by instance, the first and last step of decode spans, and the tokens held in the first."""
    spans, requests = run.spans, run.requests
    chosen = np.flatnonzero(spans["kind"] == "decode")
    given = spans["tokens"][chosen].astype(np.int64)
    key = spans["request_id"][chosen]
    # Tokens of a request's earlier spans: its spans stand one after the other.
    before = np.cumsum(given) - given
    begins = np.flatnonzero(np.append(True, key[1:] != key[:-1])) if len(key) else np.empty(0, np.int64)
    before -= np.repeat(before[begins], np.diff(np.append(begins, len(key))))
    of_request = run.span_rows[chosen]
    held = requests["prompt_tokens"][of_request] + before + 1
    first, last = spans["first_step"][chosen], spans["last_step"][chosen]
    instances = requests["instance"][of_request]
    order = np.argsort(instances, kind="stable")
    found, edges = np.unique(instances[order], return_index=True)
    parts = np.split(order, edges[1:]) if len(found) else []
    return {
        int(instance): (first[mine], last[mine], held[mine])
        for instance, mine in zip(found, parts, strict=True)
    }


def region_rows(run: RunFolder, instance: int) -> dict[str, Column] | None:
    """Return `kv_memory.parquet` of an instance, with `time_s`; None if its memory is paged."""
    path = run.path / KV_MEMORY
    if not path.is_file():
        return None
    table = Table(path)
    rows = np.flatnonzero(table["instance"] == instance)
    columns = {name: table[name][rows] for name in table}
    return columns | {"time_s": run.step_starts[instance][columns["step"]]}


def prefix_rows(run: RunFolder) -> list[dict[str, Any]]:
    """Return a row for each prefix that saved the most tokens, with what it holds at the end.

    The columns of `prefixes.parquet`, and `share` of all cached tokens and `held_bytes` (null where the run's
    summary does not tell the size of a block), on all GPUs of an instance.
    """
    path = run.path / PREFIXES
    if not path.is_file():
        return []
    table = Table(path)
    found = int(run.requests["cached_tokens"].sum())
    token_bytes = _token_bytes(run)
    rows = [dict(zip(table, row, strict=True)) for row in zip(*map(_plain, table.values()), strict=True)]
    for row in rows:
        row["share"] = row["saved_tokens"] / found if found else None
        row["held_bytes"] = None if token_bytes is None else row["held_tokens"] * token_bytes
    return rows


def _plain(column: Column) -> list[Any]:
    values: list[Any] = column.tolist()
    return values


def _token_bytes(run: RunFolder) -> int | None:
    """Return the KV bytes of a token on all GPUs of an instance; None if unknown or pools differ in it."""
    sizes = set()
    for pool in run.summary["pools"]:
        if not pool.get("memory"):
            return None
        gpus = pool["accelerators"] // max(len(pool["instances"]), 1)
        sizes.add(pool["memory"]["block_bytes"] * gpus // pool["kv_block_tokens"])
    return sizes.pop() if len(sizes) == 1 else None
