"""Lengths-only CSVs of Vidur and Sarathi-Serve, and Vidur's with arrival times."""

from __future__ import annotations

from pathlib import Path

from simserve.workload.csv_rows import read_csv
from simserve.workload.rows import TraceRows
from simserve.workload.workload import Workload

COLUMNS = ("num_prefill_tokens", "num_decode_tokens")


def read(path: Path) -> Workload:
    """Read num_prefill_tokens, num_decode_tokens and, where the file has it, arrived_at (s).

    Without arrived_at every request is due at 0 and `Workload.has_arrivals` is False.

    Raises:
        TraceError: If a row is broken.
    """
    rows = TraceRows(path)
    timed = False
    for row in read_csv(path, COLUMNS):
        timed = "arrived_at" in row
        time_ns = row.time_ns("arrived_at") if timed else 0
        rows.add(time_ns, row.tokens("num_prefill_tokens"), row.tokens("num_decode_tokens"))
    source = "Vidur trace" if timed else "lengths-only trace (Vidur, Sarathi-Serve), no arrival times"
    return rows.workload(source, has_arrivals=timed)
