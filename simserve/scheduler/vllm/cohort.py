"""Steady decoders as one aggregate: sequences that take one token in each of the same steps.

A cohort counts its own steps (ordinals). Sequence r, whose prompt was finished by ordinal q with K tokens
computed, has K + k - q - 1 tokens computed before ordinal k. So the batch needs no loop over sequences:

- the sum of contexts at ordinal k is `base_context + count * k`, base_context = sum of K - q;
- r needs a new block at ordinal k exactly when (K + k - q - 1) is a multiple of the block size, that is
  when k has the same remainder as q + 1 - K: one bucket of sequences for each remainder;
- r samples its last token at a known ordinal: a heap of those ordinals.
"""

from __future__ import annotations

from array import array
from bisect import insort
from heapq import heappop, heappush

from simserve.scheduler.batch import Batch
from simserve.scheduler.sequence import Sequence


class Cohort:
    """Steady decoders that are always scheduled together.

    Attributes:
        ordinal: Number of the cohort's next step to be scheduled.
        completed: Number of its next step to be completed.
        count, base_context: Sequences in its next step, and the constant part of their contexts.
        last_order: The largest admission order that has joined.
        foresees: Whether a sequence is scheduled again before its last output is known.
        steps: Instance step of each ordinal; None where ordinals are consecutive
            instance steps.
    """

    __slots__ = (
        "base_context", "block_size", "buckets", "completed", "count", "ends", "finishers",
        "foresees", "last_order", "leaving", "ordinal", "steps",
    )  # fmt: skip

    def __init__(self, block_size: int, *, consecutive: bool, foresees: bool) -> None:
        self.block_size = block_size
        self.ordinal = 0
        self.completed = 0
        self.count = 0
        self.base_context = 0
        self.last_order = -1
        self.foresees = foresees
        self.buckets: list[list[Sequence]] = [[] for _ in range(block_size)]
        # Distinct ordinals at which sequences end, and who ends there. An ordinal stays in the heap when
        # its last sequence has been preempted; readers skip it.
        self.ends: list[int] = []
        self.finishers: dict[int, list[Sequence]] = {}
        # Foreseen ends (asynchronous scheduling): no longer scheduled, last token still in flight.
        self.leaving: dict[int, list[Sequence]] = {}
        self.steps: array[int] | None = None if consecutive else array("q")

    def join(self, sequence: Sequence, batch: Batch, pending: int) -> bool:
        """Take in a sequence that samples in `batch`; False if it will not be scheduled again.

        Args:
            sequence: Its `computed` tokens include that step's.
            batch: The cohort's step that it is part of now, as an entry of its own.
            pending: Its tokens in flight, that step's included.
        """
        ordinal = batch.ordinal
        remaining = sequence.limit - sequence.outputs - pending
        if remaining <= 0 and (sequence.foreseen or not self.foresees):
            return False
        end = ordinal + remaining
        sequence.cohort = self
        sequence.join_ordinal = ordinal
        sequence.steady_tokens = sequence.computed
        sequence.steady_step = batch.step
        sequence.finish_ordinal = end
        self.count += 1
        self.base_context += sequence.computed - ordinal
        if sequence.order > self.last_order:
            self.last_order = sequence.order
        bucket = self.buckets[(ordinal + 1 - sequence.computed) % self.block_size]
        if bucket and bucket[-1].order > sequence.order:
            insort(bucket, sequence, key=_order)
        else:
            bucket.append(sequence)
        group = self.finishers.get(end)
        if group is None:
            self.finishers[end] = [sequence]
            heappush(self.ends, end)
        else:
            group.append(sequence)
        return True

    def context_at(self, ordinal: int) -> int:
        """Return the sum of the contexts that the current members read in a step."""
        return self.base_context + self.count * ordinal

    def next_end(self) -> int:
        """Return the ordinal at which the next sequence ends, -1 if none."""
        ends = self.ends
        finishers = self.finishers
        while ends and ends[0] not in finishers:
            heappop(ends)
        end = ends[0] if ends else -1
        if self.leaving:
            left = min(self.leaving)
            if end < 0 or left < end:
                return left
        return end

    def drop_foreseen(self, end: int) -> None:
        """Stop scheduling the sequences that are foreseen to end at ordinal `end`."""
        group = self.finishers.get(end)
        if group is None:
            return
        foreseen = [sequence for sequence in group if sequence.foreseen]
        if not foreseen:
            return
        for sequence in foreseen:
            self._unlist(sequence)
        self.leaving[end] = foreseen
        if len(foreseen) == len(group):
            del self.finishers[end]
        else:
            self.finishers[end] = [sequence for sequence in group if not sequence.foreseen]

    def pop_ended(self, ordinal: int) -> list[Sequence]:
        """Remove and return the others whose last token ordinal `ordinal` sampled."""
        ended = self.finishers.pop(ordinal, None)
        if ended is None:
            return []
        for sequence in ended:
            self._unlist(sequence)
        return ended

    def remove(self, sequence: Sequence) -> None:
        """Take out a sequence before its end (preempted or aborted)."""
        end = sequence.finish_ordinal
        group = self.leaving.get(end)
        if group is not None and sequence in group:
            group.remove(sequence)
            if not group:
                del self.leaving[end]
            return
        self._unlist(sequence)
        group = self.finishers[end]
        group.remove(sequence)
        if not group:
            del self.finishers[end]

    def is_leaving(self, sequence: Sequence) -> bool:
        """Return whether a member is no longer scheduled and only waits for its last token."""
        return sequence in self.leaving.get(sequence.finish_ordinal, ())

    def _unlist(self, sequence: Sequence) -> None:
        self.count -= 1
        self.base_context -= sequence.steady_tokens - sequence.join_ordinal
        residue = (sequence.join_ordinal + 1 - sequence.steady_tokens) % self.block_size
        self.buckets[residue].remove(sequence)


def _order(sequence: Sequence) -> int:
    return sequence.order
