"""What vLLM's decision logs hold beyond a batch itself: block ids, evictions, who is new or preempted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from simserve.scheduler.batch import Batch
from simserve.scheduler.sequence import PREEMPTED, Sequence
from simserve.scheduler.vllm.requests import RequestTable


class Observation:
    """Facts of one schedule() and its complete(), by request id.

    Attributes:
        scheduled: (request id, tokens, computed before), in vLLM's order.
        new, resumed, preempted: Request ids, in order.
        drafts: Speculative tokens scheduled.
        new_blocks: Whole tables of new and resumed requests, taken blocks of running ones; a list a group
            where there is more than one.
        evicted: Blocks whose hash was dropped, in order.
        tokens_out: Tokens received by complete().
    """

    def __init__(self, scheduler: RequestTable) -> None:
        scheduler.cache.pool.evicted.clear()
        self._held = {
            sequence.request.id: _count(scheduler.cache.block_ids(sequence)) for sequence in scheduler.running
        }
        self.scheduled: list[tuple[int, int, int]] = []
        self.new: list[int] = []
        self.resumed: list[int] = []
        self.preempted: list[int] = []
        self.drafts: dict[int, int] = {}
        self.new_blocks: dict[int, Any] = {}
        self.evicted: list[int] = []
        self.tokens_out: dict[int, int] = {}

    def admit(self, sequence: Sequence) -> None:
        """Note an admission, before the sequence's status changes."""
        (self.resumed if sequence.status == PREEMPTED else self.new).append(sequence.request.id)

    def finish(self, batch: Batch, scheduler: RequestTable, preempted: Iterable[Sequence]) -> None:
        """Read the rest off the batch at the end of schedule(), before its tokens count as computed."""
        self.preempted = [sequence.request.id for sequence in preempted]
        self.evicted = list(scheduler.cache.pool.evicted)
        admitted = {*self.new, *self.resumed}
        for entry in batch.entries:
            request_id = entry.sequence.request.id
            self.scheduled.append((request_id, entry.tokens, entry.computed_before))
            if entry.drafts:
                self.drafts[request_id] = entry.drafts
            table = scheduler.cache.block_ids(entry.sequence)
            if request_id in admitted:
                self.new_blocks[request_id] = table
                continue
            taken = _taken(table, self._held[request_id])
            if any(taken):
                self.new_blocks[request_id] = taken


def _count(table: Any) -> Any:
    return [len(blocks) for blocks in table] if _is_grouped(table) else len(table)


def _taken(table: Any, before: Any) -> Any:
    if _is_grouped(table):
        return [blocks[count:] for blocks, count in zip(table, before, strict=True)]
    return table[before:]


def _is_grouped(table: Any) -> bool:
    return bool(table) and isinstance(table[0], list)
