"""What every policy of the base shares: seats taken and lost, outputs, ends, and the spans that tell of them.

Policies only decide (`base`); what comes of it is counted here.
"""

from __future__ import annotations

from simserve.scheduler.batch import Batch
from simserve.scheduler.request_book import RequestBook
from simserve.scheduler.sequence import FINISHED, PREEMPTED, Sequence


class Accounting(RequestBook):
    """Seats, preempts and ends requests."""

    # -- seats ---------------------------------------------------------------------------------------------

    def _seat(self, sequence: Sequence, hit_tokens: int) -> None:
        """Move a waiting sequence to the running list; its blocks are there already."""
        if sequence is self.waiting.head():
            self.waiting.pop_head()
        else:
            self.waiting.take(sequence)
        sequence.take_seat(self.steps, hit_tokens)
        sequence.computed = hit_tokens
        self._admissions += 1
        sequence.order = self._admissions
        self.running.append(sequence)

    def _unseat(self, sequence: Sequence) -> None:
        """Take a sequence's seat and note what it did; what becomes of its blocks is for the caller."""
        self.running.remove(sequence)
        if sequence.tenure_start == self.steps:
            self._undo_seat(sequence)
        else:
            sequence.close_tenure(self.steps - 1, sequence.computed - sequence.join_tokens)
            assert sequence.spans is not None
            sequence.spans.append(("preempted", self.steps, self.steps, 0))
            sequence.preemptions += 1
        sequence.status = PREEMPTED
        self.preempted.append(sequence)

    def _undo_seat(self, sequence: Sequence) -> None:
        """Forget a stay that began in this very step: nothing has happened in it."""
        if sequence.spans is None:
            sequence.first_step = sequence.cached_tokens = -1

    # -- outputs -------------------------------------------------------------------------------------------

    def complete(self, batch: Batch | None = None) -> list[Sequence]:
        """Take the outputs of the oldest batch in flight; returns the sequences that ended with it.

        Those leave and free their blocks, in the order in which they were admitted.
        """
        oldest = self._in_flight.popleft()
        assert batch is None or oldest is batch, "batches complete in the order in which they were scheduled"
        step = oldest.step
        ended = []
        for sequence in oldest.decoders:
            if sequence.status == FINISHED:
                continue
            outputs = sequence.outputs
            if sequence.token_steps is None and step == sequence.first_token_step + outputs:
                sequence.outputs = outputs + 1
                sequence.known += 1
            else:
                sequence.note_tokens(step, 1)
            if outputs + 1 >= sequence.limit:
                ended.append(sequence)
        for entry in oldest.entries:
            sequence = entry.sequence
            sequence.inflight = 0
            if sequence.status != FINISHED and entry.samples:
                sequence.note_tokens(step, 1)
                if sequence.outputs >= sequence.limit:
                    ended.append(sequence)
        if self._is_pipelined:
            for sequence in oldest.decoders:
                sequence.inflight = 0
        if self.order is not None:
            for sequence in oldest.sampling():
                if sequence.status != FINISHED:
                    self.order.served(sequence, 1)
        if len(ended) > 1:
            ended.sort(key=lambda sequence: sequence.order)
        for sequence in ended:
            self._finish(sequence, step)
        return ended

    def _finish(self, sequence: Sequence, step: int) -> None:
        """End a sequence with the token that a step has sampled."""
        sequence.finish_step = step
        if sequence.spans is not None:
            sequence.close_tenure(step, sequence.known - sequence.join_tokens - 1)
        self.running.remove(sequence)
        self._forget(sequence)
