"""A step's outputs coming back, sequence by sequence: rules 6, 11 and 13 of vLLM 0.19.0's decision logs."""

from __future__ import annotations

from simserve.scheduler.batch import Batch
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.sequence import FINISHED, RUNNING, Sequence
from simserve.scheduler.vllm.requests import RequestTable


class OutputScheduler(RequestTable):
    """Takes the outputs of the batches in flight, in the order in which they were scheduled."""

    def __init__(self, config: SchedulerConfig, *, observe: bool = False) -> None:
        super().__init__(config, observe=observe)
        self._drafts = config.speculative.num_speculative_tokens if config.speculative else 0

    def complete(self, batch: Batch | None = None) -> list[Sequence]:
        """Take the outputs of the oldest batch in flight; returns the sequences that ended with it.

        Those leave and free their blocks.
        """
        oldest = self._in_flight.popleft()
        assert batch is None or oldest is batch, "batches complete in the order in which they were scheduled"
        return self._complete_entries(oldest)

    def _complete_entries(self, batch: Batch) -> list[Sequence]:
        ended = []
        for entry in batch.entries:
            sequence = entry.sequence
            if sequence.status == FINISHED or not entry.samples:
                continue
            generated = 1
            if entry.drafts:
                accepted = self.config.speculative.accept(  # type: ignore[union-attr]
                    sequence.request.id, sequence.verified_steps, entry.drafts
                )
                sequence.verified_steps += 1
                generated += accepted
                rejected = entry.drafts - accepted
                if sequence.computed > 0:
                    sequence.computed -= rejected
                if sequence.inflight > 0:
                    sequence.inflight -= rejected
            if self._take_outputs(sequence, generated, batch):
                ended.append(sequence)
        return ended

    def _take_outputs(self, sequence: Sequence, generated: int, batch: Batch) -> bool:
        """Append output tokens; returns whether the sequence has ended."""
        generated = min(generated, sequence.limit - sequence.outputs)
        if batch.observed:
            batch.observed.tokens_out[sequence.request.id] = generated
        sequence.note_tokens(batch.step, generated)
        if self.config.async_scheduling:
            sequence.inflight -= generated
        if sequence.outputs >= sequence.limit:
            sequence.finish_step = batch.step
            self._finish(sequence)
            return True
        if self.config.async_scheduling:
            if sequence.status == RUNNING and sequence.cohort is None:
                self.cache.publish(sequence, sequence.computed - sequence.inflight)
        elif self._drafts:
            sequence.drafts = self._drafts
        return False

    def _finish(self, sequence: Sequence) -> None:
        if self.config.async_scheduling and sequence.status == RUNNING:
            self.cache.publish(sequence, sequence.computed - sequence.inflight)
        if sequence.spans is not None:
            if sequence.status == RUNNING:
                sequence.close_tenure(sequence.finish_step, sequence.known - sequence.join_tokens - 1)
            else:
                sequence.spans.pop()  # it ended by the token that was in flight when it was preempted
        if sequence.status == RUNNING:
            self.running.remove(sequence)
        else:
            self.waiting.discard(sequence)
        self._end(sequence)
