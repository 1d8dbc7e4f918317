"""Mooncake traces (Qin et al., FAST 2025): JSONL with the hash ids of 512-token prompt blocks."""

from __future__ import annotations

from array import array
from itertools import groupby
from pathlib import Path

import numpy as np

from simserve.workload.json_rows import read_jsonl
from simserve.workload.rows import TraceRows
from simserve.workload.workload import Workload

BLOCK_TOKENS = 512


def read(path: Path, spread_ticks: bool = False) -> Workload:
    """Read a Mooncake trace: timestamp (ms), input_length, output_length, hash_ids.

    Args:
        path: The trace.
        spread_ticks: The public conversation trace records arrivals in ticks of 3 s, many at once; spread the
            requests of one tick evenly up to the next tick, in the file's order. A tick before a silence is
            taken to last as long as the others (the median distance of two ticks).

    Raises:
        TraceError: If a row is broken.
    """
    rows = TraceRows(path)
    ids: list[list[int]] = []
    for record in read_jsonl(path):
        time_ns = record.time_ns("timestamp", 1_000_000)
        rows.add(time_ns, record.tokens("input_length"), record.tokens("output_length"))
        blocks = record.integers("hash_ids")
        if len(blocks) * BLOCK_TOKENS >= rows.prompt_tokens[-1] + BLOCK_TOKENS:
            record.fail("hash_ids", f"expected at most one for each {BLOCK_TOKENS} tokens of the prompt")
        ids.append(blocks)
    rows.set_blocks(ids, BLOCK_TOKENS, outputs=False)
    if spread_ticks and len(rows) > 1:
        rows.arrival_ns = _spread(rows.arrival_ns)
        rows.notes.append("requests of a tick spread evenly")
    return rows.workload("Mooncake trace, prompts from 512-token block hashes", block_tokens=BLOCK_TOKENS)


def _spread(arrivals: array[int]) -> array[int]:
    times = np.frombuffer(arrivals, dtype=np.int64)
    order = np.argsort(times, kind="stable")
    ticks = np.unique(times)
    if len(ticks) < 2:
        return arrivals
    usual = int(np.median(np.diff(ticks)))
    spread = np.empty_like(times)
    start = 0
    for index, (tick, group) in enumerate(groupby(times[order].tolist())):
        count = len(list(group))
        length = min(usual, int(ticks[index + 1]) - tick) if index + 1 < len(ticks) else usual
        spread[order[start : start + count]] = tick + np.arange(count) * length // count
        start += count
    return array("q", spread.tolist())
