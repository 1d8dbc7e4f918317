"""Whole batches changing between the two ways: step by step, and steady decoders as an aggregate."""

from __future__ import annotations

from simserve.scheduler.batch import Batch, Entry
from simserve.scheduler.sequence import Sequence
from simserve.scheduler.vllm.membership import CohortScheduler


class SwitchingScheduler(CohortScheduler):
    """Leaves the aggregate where a step does not fit it, and enters it again behind that."""

    def _leave_aggregate(self) -> None:
        """Give every sequence its own state again."""
        for sequence in self.running:
            if sequence.cohort is not None:
                self._detach_in_place(sequence)
        for batch in self._in_flight:
            batch.cohort = None
        self._partials = []
        self._steady = False
        self._ready = None

    def _detach_in_place(self, sequence: Sequence) -> None:
        cohort = sequence.cohort
        assert cohort is not None
        scheduled = self._settle(sequence, cohort)
        for batch in self._in_flight:
            if batch.cohort is cohort and sequence.join_ordinal < batch.ordinal <= scheduled:
                entry = Entry(sequence, 1, 0, 0)
                entry.samples = True
                batch.entries = sorted([*batch.entries, entry], key=lambda each: each.sequence.order)
        self._part(sequence)

    def _enter_aggregate(self, batch: Batch) -> None:
        """Form cohorts again after a step in which everything that runs was scheduled as usual."""
        members = {entry.sequence for entry in batch.entries}
        if not self._consecutive and len(self._in_flight) > 1:
            return  # a pipeline's other batches would need cohorts of their own: wait until it has drained
        for sequence in self.running:
            if sequence.decoding and sequence not in members and not self._is_ending(sequence):
                return
            if self._is_ending(sequence) and (self._lag > 2 or not sequence.foreseen):
                return  # its last token is in flight, and it is scheduled in vain until that is seen
            if not sequence.decoding and sequence.inflight:
                return
        is_async = self._is_async
        cohort = self._new_cohort()
        if cohort.steps is not None:
            cohort.steps.append(batch.step)
        cohort.ordinal = 1
        batch.cohort = cohort
        self._partials = [sequence for sequence in self.running if not sequence.decoding]
        for entry in batch.entries:
            sequence = entry.sequence
            if not entry.samples:
                continue
            self._join(sequence, cohort, batch, sequence.inflight if is_async else 1)
        if is_async:
            for flying in self._in_flight:
                flying.ends_some = True  # outputs one by one until these have completed
            self._irregular = len(self._in_flight)
        self._ready = cohort if self._consecutive else None
        self._steady = True

    def _is_ending(self, sequence: Sequence) -> bool:
        """Whether asynchronous scheduling only waits for a sequence's last token."""
        return sequence.inflight > 0 and sequence.outputs + sequence.inflight >= sequence.limit
