"""A batch's results coming back: tokens are appended, prompts and ended requests go into the tree."""

from __future__ import annotations

from simserve.scheduler.batch import Batch
from simserve.scheduler.sequence import RUNNING
from simserve.scheduler.sglang.prefill import PrefillPass
from simserve.scheduler.sglang.row import NOT_JOINED, Row


class Results(PrefillPass):
    """Takes the outputs of the batches in flight, in the order in which they were scheduled."""

    def complete(self, batch: Batch | None = None) -> list[Row]:
        """Take the outputs of the oldest batch in flight; returns the requests that ended with it.

        Prompts are published here, and so a pass later where passes overlap.
        """
        oldest = self._in_flight.popleft()
        assert batch is None or oldest is batch, "batches complete in the order in which they were scheduled"
        batch = oldest
        if self._flying:
            self._enter(self._flying.popleft())
        ended: list[Row] = []
        for entry in batch.entries:
            row = entry.sequence
            assert isinstance(row, Row)
            if not entry.samples or row.status != RUNNING:
                continue  # a middle chunk; or it was retracted or dropped meanwhile
            row.inflight = 0
            row.note_tokens(batch.step, 1)
            if row.outputs >= row.limit:
                self._finish(row, batch.step)
                ended.append(row)
            else:
                self.pool.checkpoint(row, entry.computed_before + entry.tokens)
        if batch.ordinal >= 0:
            for row in self.decoders.complete():
                self._finish(row, batch.step)
                ended.append(row)
        return ended

    def _finish(self, row: Row, step: int) -> None:
        row.finish_step = step
        if row.joined != NOT_JOINED:
            row.group.rest(row)
        if row.spans is not None:
            row.close_tenure(step, row.known - row.join_tokens - 1)
        self.running.remove(row)
        self._has_ended = True
        # By an EOS it was decoded once more where passes overlap: that token is not kept.
        self.pool.release(row, min(row.committed, row.known), publish=True)
        self._forget(row)
