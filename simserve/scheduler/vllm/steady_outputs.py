"""A step's outputs coming back to steady decoders: only those that end are touched."""

from __future__ import annotations

from simserve.kvcache.run_pool import RunPool
from simserve.scheduler.batch import Batch
from simserve.scheduler.sequence import FINISHED, Sequence
from simserve.scheduler.vllm.cohort import Cohort
from simserve.scheduler.vllm.switching import SwitchingScheduler


class SteadyOutputs(SwitchingScheduler):
    """`complete()` for batches whose decoders are members of a cohort."""

    def complete(self, batch: Batch | None = None) -> list[Sequence]:
        """Take the outputs of the oldest batch in flight; returns the sequences that ended with it."""
        oldest = self._in_flight.popleft()
        assert batch is None or oldest is batch, "batches complete in the order in which they were scheduled"
        batch = oldest
        if batch.ends_some or batch.detached:
            self._irregular -= 1
        cohort = batch.cohort
        ended: list[Sequence] = []
        if cohort is not None:
            if batch.observed:
                self._observe_outputs(batch, cohort)
            ordinal = batch.ordinal
            cohort.completed = ordinal + 1
            if ordinal in cohort.leaving or ordinal in cohort.finishers:
                ended = self._end_members(cohort, batch)
            if not self._consecutive:
                self._ready = cohort if cohort.count else None
        if batch.entries:
            ended += self._complete_entries(batch)
        if batch.detached:
            for sequence in batch.detached:
                if sequence.status != FINISHED and self._take_outputs(sequence, 1, batch):
                    ended.append(sequence)
        if len(ended) > 1:
            ended.sort(key=lambda sequence: sequence.order)
        return ended

    def _end_members(self, cohort: Cohort, batch: Batch) -> list[Sequence]:
        """End the members whose last token a batch has sampled, in running order."""
        ordinal = batch.ordinal
        ends = [(sequence, ordinal + self._lag - 2) for sequence in cohort.leaving.pop(ordinal, ())]
        for sequence in cohort.pop_ended(ordinal):
            if sequence.join_ordinal == ordinal:
                # Its first token, an EOS that nobody foresaw: an entry of this batch.
                self._count_private(sequence, cohort.ordinal - 1)
                self._part(sequence)
            else:
                ends.append((sequence, cohort.ordinal - 1))
        if len(ends) > 1:
            ends.sort(key=lambda end: end[0].order)
        for sequence, scheduled in ends:
            self._finish_steady(sequence, cohort, batch, scheduled)
        return [sequence for sequence, _ in ends]

    def _finish_steady(self, sequence: Sequence, cohort: Cohort, batch: Batch, scheduled: int) -> None:
        """End a cohort's member with its last token; it was scheduled up to ordinal `scheduled`."""
        joined = sequence.join_ordinal
        gained = batch.ordinal - joined
        tokens = sequence.steady_tokens
        size = cohort.block_size
        sequence.private = -(-(tokens + scheduled - joined) // size) - sequence.tracked
        self._confirm(sequence, cohort, gained)
        sequence.finish_step = batch.step
        if sequence.shared_limit:
            self.cache.publish(sequence, tokens + gained)
        elif self.cache.enable_prefix_caching:
            sequence.published = (tokens + gained) // size
        if sequence.spans is not None:
            sequence.close_tenure(batch.step, sequence.known - sequence.join_tokens - 1)
        self._part(sequence)
        self.running.remove(sequence)
        if sequence.shared_limit or self.tiers is not None:
            self._end(sequence)
            return
        # The same for blocks that nobody shares.
        published = sequence.published
        private = sequence.private
        pool = self.pool
        assert isinstance(pool, RunPool)
        pool.release_unkeyed(private, published if published < private else private)
        sequence.status = FINISHED
        del self.sequences[sequence.request.id]

    def _observe_outputs(self, batch: Batch, cohort: Cohort) -> None:
        for sequence in self.running:
            if sequence.cohort is cohort and sequence.join_ordinal < batch.ordinal <= sequence.finish_ordinal:
                batch.observed.tokens_out[sequence.request.id] = 1
