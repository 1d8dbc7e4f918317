"""A detailed result of `vllm bench serve` as the measured side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from simserve.errors import TraceError
from simserve.metrics.columns import Floats
from simserve.study.measured import Latencies, Measured
from simserve.workload.formats.vllm_bench import KEYS, read_numbers, read_result
from simserve.workload.json_rows import Record

_TIMES = ("ttfts", "itls")


def read_bench_result(path: Path) -> tuple[Measured, list[str]]:
    """Read what `vllm bench serve --save-result --save-detailed` wrote.

    E2EL is TTFT plus all gaps between tokens; TTFTs count from the moment a request was sent. Prompts are
    taken to be distinct, since a result does not hold them.

    Returns:
        The requests that completed, in order of sending, and notes on what was left out.

    Raises:
        TraceError: If it is no such file.
    """
    record = read_result(path)
    columns = {key: read_numbers(record, key) for key in KEYS}
    ttfts, itls = (_list(record, key) for key in _TIMES)
    errors: list[Any] = _list(record, "errors") if "errors" in record else [""] * len(ttfts)
    count = len(columns["start_times"])
    sizes = {**{key: len(values) for key, values in columns.items()}, "ttfts": len(ttfts), "itls": len(itls)}
    for key, size in {**sizes, "errors": len(errors)}.items():
        if size != count:
            record.fail(key, f"expected {count} entries, as many as start_times")
    kept = [row for row in range(count) if not errors[row] and columns["output_lens"][row] > 0 and ttfts[row]]
    if not kept:
        raise TraceError("no request of the benchmark completed", file=str(path))
    kept.sort(key=lambda row: columns["start_times"][row])
    first = columns["start_times"][kept[0]]
    gaps = [_gaps(record, itls[row]) for row in kept]
    sent = np.array([columns["start_times"][row] - first for row in kept])
    ttft = np.array([_seconds(record, "ttfts", ttfts[row]) for row in kept])
    flat = np.concatenate(gaps)
    latencies = Latencies(
        due_s=sent,
        start_s=sent,
        ttft_s=ttft,
        e2el_s=ttft + np.array([float(each.sum()) for each in gaps]),
        output_tokens=np.array([columns["output_lens"][row] for row in kept], dtype=np.int64),
        gaps_s=flat,
        gap_counts=np.ones(len(flat), dtype=np.int64),
    )
    prompts = np.maximum([int(columns["input_lens"][row]) for row in kept], 1)
    notes = ["prompts are taken to be distinct: a benchmark's result does not hold them"]
    if len(kept) < count:
        notes.append(f"{count - len(kept)} requests that failed in the benchmark are left out")
    return Measured(latencies, prompts, np.full(len(kept), -1), np.array(kept)), notes


def _list(record: Record, key: str) -> list[Any]:
    values = record.fields.get(key)
    if not isinstance(values, list):
        record.fail(key, "expected a list; save the result with --save-detailed")
    return values


def _gaps(record: Record, values: Any) -> Floats:
    if not isinstance(values, list):
        record.fail("itls", "expected a list of gaps for each request")
    return np.array([_seconds(record, "itls", value) for value in values], dtype=np.float64)


def _seconds(record: Record, key: str, value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value < float("inf"):
        record.fail(key, f"expected seconds, at least 0, found {value!r}")
    return float(value)
