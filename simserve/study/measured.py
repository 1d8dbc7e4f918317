"""What was measured: one row a request, from a run's `measured.csv.gz` or a benchmark's detailed result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simserve.errors import InputError, TraceError
from simserve.metrics.columns import Floats, Ints
from simserve.workload.csv_rows import Row, read_csv

MEASURED_FILE = "measured.csv.gz"
_REQUIRED = ("request_id", "due_s", "sent_s", "prompt_tokens", "output_tokens", "ttft_s", "e2el_s")


@dataclass(frozen=True, eq=False)
class Latencies:
    """Requests of one side, measured or simulated, in the order in which they became due.

    Attributes:
        due_s: `[n]`, when the client wanted to send each.
        start_s: `[n]`, when its latencies begin.
        ttft_s, e2el_s: `[n]`, counted from there; NaN for a request that did not complete.
        output_tokens: `[n]`.
        gaps_s: `[m]` gaps between tokens of all requests, None where they are not known.
        gap_counts: `[m]`, how often each of them occurs.
    """

    due_s: Floats
    start_s: Floats
    ttft_s: Floats
    e2el_s: Floats
    output_tokens: Ints
    gaps_s: Floats | None = None
    gap_counts: Ints | None = None

    @property
    def tpot_s(self) -> Floats:
        """`[n]` (E2EL - TTFT) / (output tokens - 1); NaN for requests of one token."""
        gaps = np.where(self.output_tokens > 1, self.output_tokens - 1, np.nan)
        return np.asarray((self.e2el_s - self.ttft_s) / gaps)

    @property
    def end_s(self) -> Floats:
        """`[n]`, when each request ended."""
        return np.asarray(self.start_s + self.e2el_s)


@dataclass(frozen=True, eq=False)
class Measured:
    """The rows of a run.

    Attributes:
        latencies: Their times.
        prompt_tokens: `[n]`.
        prompt_id: `[n]`, equal where prompts are equal, -1 for a prompt of its own.
        row: `[n]`, the row of the file that each is, from 0.
    """

    latencies: Latencies
    prompt_tokens: Ints
    prompt_id: Ints
    row: Ints

    def __len__(self) -> int:
        return len(self.prompt_tokens)


def read_measured(path: Path, *, queued: bool) -> Measured:
    """Read a `measured.csv.gz`, sorted by due time (ties keep the file's order).

    Args:
        path: The file.
        queued: Whether latencies count from the engine's queue: then a row starts at its due time, the
            nearest to it that the file knows.

    Raises:
        InputError: If it cannot be read or a row is broken, with its place.
    """
    if not path.is_file():
        raise TraceError("no such file", file=str(path))
    rows = [_read_row(row) for row in read_csv(path, _REQUIRED)]
    if not rows:
        raise TraceError("no requests were measured", file=str(path))
    table = np.array(rows, dtype=np.float64)
    order = np.argsort(table[:, 0], kind="stable")
    due, sent, prompts, outputs, ids, ttft, e2el = table[order].T
    latencies = Latencies(due, due if queued else sent, ttft, e2el, outputs.astype(np.int64))
    return Measured(latencies, prompts.astype(np.int64), ids.astype(np.int64), order)


def _read_row(row: Row) -> tuple[float, ...]:
    ttft, e2el = row.number_at_least_0("ttft_s"), row.number_at_least_0("e2el_s")
    if e2el < ttft:
        row.fail("e2el_s", f"expected at least ttft_s, {ttft:g}")
    for key in ("prompt_tokens", "output_tokens"):
        if not row.tokens(key):
            row.fail(key, "expected at least 1 token")
    return (
        row.number_at_least_0("due_s"),
        row.number_at_least_0("sent_s"),
        row.tokens("prompt_tokens"),
        row.tokens("output_tokens"),
        row.integer("prompt_id") if row.text("prompt_id") else -1,
        ttft,
        e2el,
    )


def check_rows(measured: Measured, stated: int | None, path: Path) -> None:
    """Refuse a file that has not as many rows as its run states.

    Raises:
        InputError: If the numbers differ.
    """
    if stated is not None and stated != len(measured):
        raise InputError(
            f"has {len(measured)} requests; expected {stated}, as run.yaml states", file=str(path)
        )
