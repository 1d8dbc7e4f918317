"""Writes an instance's steps into its log: every end, and a row a stretch of equal decode steps."""

from __future__ import annotations

from struct import pack

import numpy as np

from simserve.metrics.record import StepLog, extend_column
from simserve.scheduler.batch import Batch, Usage
from simserve.scheduler.contract import Units

# Rows, and ends, kept before they move to the columns of the log.
_ROWS_KEPT = 256
_ENDS_KEPT = 1024


class StepRecorder:
    """Appends to a `StepLog`. Consecutive decode steps with the same batch and queue share a row.

    Args:
        log: Where to.
        pool: The engine's KV memory.

    Rows and ends are moved to the log's columns many at a time; `flush` moves the rest.

    Attributes:
        decodes, waiting: Of the open row if it is one of decode steps (else decodes is -1): steps with the
            same may join it.
        steps: Steps of the open row.
        trace: If a list, (step, end, decodes, prefill tokens, used blocks, cached blocks, waiting) of every
            step is appended: for tests. Decode steps must then be recorded one by one.
    """

    def __init__(self, log: StepLog, pool: Units) -> None:
        self.log = log
        self._pool = pool
        self._ends: list[int] = []
        # Rows one after the other: first step, start, prefill tokens, decodes, running, waiting, used
        # and cached blocks; and the steps of all but the last, which is open.
        self._rows: list[int] = []
        self._closed: list[int] = []
        self._is_open = False
        self.steps = 0
        self.decodes = -1
        self.waiting = -1
        self.trace: list[tuple[int, ...]] | None = None
        # Of the trace: what is known of steps whose ends come next, without these.
        self._unended: list[tuple[int, ...]] = []

    def record(self, batch: Batch, start_ns: int, end_ns: int) -> None:
        """Append one dispatched step, before another schedule is made."""
        self._ends.append(end_ns)
        decodes, waiting = batch.decodes, batch.waiting
        if self.trace is not None:
            usage = (batch.used_blocks, self._pool.num_free_cached)
            self.trace.append((batch.step, end_ns, decodes, batch.prefill_tokens, *usage, waiting))
        if decodes == self.decodes and waiting == self.waiting and not batch.chunks:
            self.steps += 1
            return
        usage = (batch.used_blocks, self._pool.num_free_cached)
        self._begin((batch.step, start_ns, batch.prefill_tokens, decodes, batch.running, waiting, *usage), 1)
        self.decodes = -1 if batch.chunks else decodes
        self.waiting = waiting

    def record_ends(self, ends_ns: list[int]) -> None:
        """Append the ends of the next steps."""
        self._ends += ends_ns
        if self.trace is not None:
            for (step, *content), end in zip(self._unended, ends_ns, strict=True):
                self.trace.append((step, end, *content))
            self._unended.clear()
        if len(self._ends) >= _ENDS_KEPT:
            self._move_ends()

    def record_decodes(
        self, step: int, steps: int, start_ns: int, decodes: int, running: int, waiting: int, usage: Usage
    ) -> None:
        """Append `steps` equal decode steps; their ends are appended by the caller."""
        if self.trace is not None:
            self._unended += [(step + index, decodes, 0, *usage, waiting) for index in range(steps)]
        if decodes == self.decodes and waiting == self.waiting:
            self.steps += steps
            return
        self._begin((step, start_ns, 0, decodes, running, waiting, *usage), steps)
        self.decodes = decodes
        self.waiting = waiting

    def _begin(self, row: tuple[int, ...], steps: int) -> None:
        if self._is_open:
            self._closed.append(self.steps)
            if len(self._closed) >= _ROWS_KEPT:
                self._move_rows()
        self._rows += row
        self._is_open = True
        self.steps = steps

    def flush(self) -> None:
        """Move all rows to the log, the open one too; nothing may be recorded afterwards."""
        if self._is_open:
            self._closed.append(self.steps)
            self._is_open = False
        self._move_rows()
        self._move_ends()

    def _move_ends(self) -> None:
        extend_column(self.log.end_ns, self._ends)
        self._ends.clear()

    def _move_rows(self) -> None:
        log = self.log
        columns = (
            log.first_step, log.start_ns, log.prefill_tokens, log.decode_tokens, log.running, log.waiting,
            log.used_blocks, log.cached_blocks,
        )  # fmt: skip
        rows = np.frombuffer(pack(f"{len(self._rows)}q", *self._rows), np.int64)
        for column, values in zip(columns, rows.reshape(-1, len(columns)).T, strict=True):
            column.frombytes(values.tobytes())
        extend_column(log.steps, self._closed)
        self._rows.clear()
        self._closed.clear()
