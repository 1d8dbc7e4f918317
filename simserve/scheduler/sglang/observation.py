"""What SGLang's decision logs hold of one pass."""

from __future__ import annotations

from simserve.scheduler.batch import Batch
from simserve.scheduler.sglang.requests import RequestTable


class Observation:
    """The state after one decision.

    Attributes:
        mode: extend, decode, mixed or idle.
        scheduled: (request id, new tokens, tokens in KV before) of an extend or mixed batch, in its order.
        chunked: Id of the request that this batch leaves unfinished, None if there is none.
        running, waiting, failed: Request ids.
        preempted, retracted: Ids of those that lost their row; of them those that lost it for want of memory.
        full: Whether nobody may join the running batch.
    """

    def __init__(self, scheduler: RequestTable, batch: Batch | None) -> None:
        self.mode = _mode(batch)
        self.scheduled: list[tuple[int, int, int]] = []
        if batch is not None and batch.entries:
            self.scheduled = [(e.sequence.id, e.tokens, e.computed_before) for e in batch.entries]
            if batch.decodes:
                rows = scheduler.last_rows[len(batch.entries) :]
                self.scheduled += [(row.id, 1, scheduler.decoders.committed(row) - 1) for row in rows]
        chunked = scheduler.chunked if batch is not None and batch.entries else None
        self.chunked = None if chunked is None else chunked.id
        self.running = [row.id for row in scheduler.batch.rows]
        self.waiting = [row.id for row in scheduler.waiting]
        self.preempted = [row.id for row in scheduler.preempted]
        self.retracted = self.preempted[scheduler.displaced :]
        self.failed = [row.id for row, _ in scheduler.failed]
        self.full = scheduler.batch.full


def _mode(batch: Batch | None) -> str:
    if batch is None:
        return "idle"
    if not batch.entries:
        return "decode"
    return "mixed" if batch.decodes else "extend"
