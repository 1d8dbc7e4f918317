"""Rows of a trace as a reader meets them, gathered into a workload."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simserve.errors import TraceError
from simserve.workload.hash_blocks import BlockStreams, Pieces, prompts_of, shared_tokens_of
from simserve.workload.workload import IntColumn, Labels, Workload

# Suffixes that are no part of a trace's name.
_SUFFIXES = {".gz", ".csv", ".json", ".jsonl", ".parquet"}


class TraceRows:
    """Requests of one trace in the order of its file. A reader adds rows; `workload` sorts and names them.

    Columns that a reader leaves empty keep their default; the others must have an entry a row in the end.

    Attributes:
        path: The file that is read.
        tenant, session: Labels, one a row; priority, slo_class: finished columns.
        notes: What the reader changed or left out, for `Workload.source`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.arrival_ns = array("q")
        self.prompt_tokens = array("q")
        self.output_tokens = array("q")
        self.tenant: list[str] = []
        self.session: list[str] = []
        self._predecessor = array("q")
        self._gap_ns = array("q")
        self._pieces: list[Pieces] = []
        self._output_stream = array("q")
        self._shared_tokens: IntColumn | None = None
        self.priority: IntColumn | None = None
        self.slo_class: Labels | None = None
        self.notes: list[str] = []

    def __len__(self) -> int:
        return len(self.arrival_ns)

    def add(self, arrival_ns: int, prompt_tokens: int, output_tokens: int) -> int:
        """Append a request and return its row."""
        self.arrival_ns.append(arrival_ns)
        self.prompt_tokens.append(prompt_tokens)
        self.output_tokens.append(output_tokens)
        return len(self.arrival_ns) - 1

    def link(self, predecessor: int, gap_ns: int) -> None:
        """Let the completion of row `predecessor` (-1: none) release the row added last, `gap_ns` later."""
        self._predecessor.append(predecessor)
        self._gap_ns.append(gap_ns)

    def start_at_zero(self) -> None:
        """Shift all arrivals so that the first is at 0."""
        first = min(self.arrival_ns, default=0)
        self.arrival_ns = array("q", [time - first for time in self.arrival_ns])

    def workload(self, source: str, *, has_arrivals: bool = True, block_tokens: int = 0) -> Workload:
        """Return the workload, sorted by arrival where the file is not (ties keep the file's order).

        Raises:
            TraceError: If there are no rows.
        """
        if not len(self):
            raise TraceError("the trace has no requests", file=str(self.path))
        linked = any(row >= 0 for row in self._predecessor)
        load = Workload(
            name=trace_name(self.path),
            arrival_ns=_column(self.arrival_ns),
            prompt_tokens=_column(self.prompt_tokens),
            output_tokens=_column(self.output_tokens),
            output_stream=_column(self._output_stream) if self._output_stream else None,
            shared_tokens=self._shared_tokens,
            tenant=Labels.encode(self.tenant) if self.tenant else None,
            session=Labels.encode(self.session) if self.session else None,
            priority=self.priority,
            slo_class=self.slo_class,
            prompts=prompts_of(self._pieces) if self._pieces else None,
            predecessor=_column(self._predecessor) if linked else None,
            gap_ns=_column(self._gap_ns) if linked else None,
            source="; ".join([source, *self.notes]),
            has_arrivals=has_arrivals,
            block_tokens=block_tokens,
        )
        if np.any(np.diff(load.arrival_ns) < 0):
            order = np.argsort(load.arrival_ns, kind="stable")
            load = load.take(order)
        return load

    def set_blocks(self, ids: Sequence[Sequence[int]], block_tokens: int, outputs: bool) -> None:
        """Derive prompts, output streams and shared tokens from the hash ids of each row.

        Args:
            ids: Chained hash ids of each row's blocks, in file order.
            block_tokens: Tokens of a block.
            outputs: Whether the blocks go on over the output.
        """
        streams = BlockStreams(len(self), block_tokens)
        if outputs:
            for row, row_ids in enumerate(ids):
                streams.add_output(row, row_ids, self.prompt_tokens[row])
        self._pieces = [streams.prompt(row_ids, self.prompt_tokens[row]) for row, row_ids in enumerate(ids)]
        self._output_stream = streams.output_streams()
        total = _column(self.prompt_tokens) + (_column(self.output_tokens) if outputs else 0)
        self._shared_tokens = shared_tokens_of(ids, block_tokens, total)


def trace_name(path: Path) -> str:
    """Return a trace's name: its file's name without the usual suffixes."""
    while path.suffix.lower() in _SUFFIXES:
        path = path.with_suffix("")
    return path.name


def _column(values: array[int]) -> IntColumn:
    return np.frombuffer(values, dtype=np.int64).copy() if len(values) else np.empty(0, np.int64)
