"""A decode pass: every row of the running batch takes a token, or some are retracted so that the rest can."""

from __future__ import annotations

from simserve.scheduler.batch import Batch
from simserve.scheduler.sequence import PREEMPTED
from simserve.scheduler.sglang.requests import RequestTable
from simserve.scheduler.sglang.retraction import order_to_keep
from simserve.scheduler.sglang.row import Row

_NO_MEMORY = "out of memory even after retracting all other requests of the decode batch"


class DecodePass(RequestTable):
    """Decides decode batches, and the decoding part of mixed ones."""

    def _form_decode(self) -> Batch | None:
        """Decode the running batch; None if it is empty or sits out."""
        running = self.batch
        rows_before = len(running.rows)
        if not rows_before:
            return None
        finishing = self._rest_finishing()
        if not running.rows:
            running.full = False
            return None
        if self._has_decode_room():
            self.ratio.decay()
        elif finishing:
            # Their memory comes back when the batch in flight ends.
            running.full = False
            return None
        else:
            self._retract_some()
        if len(running.rows) < rows_before:
            running.full = False
        if not running.rows:
            return None
        batch = Batch(self.steps)
        self._decode_in(batch)
        self.processed_tokens += running.prefill_tokens
        return batch

    def _decode_in(self, batch: Batch) -> None:
        """Let every row of the running batch decode in a batch. There is room."""
        decoders = self.decoders
        ordinal = decoders.ordinal
        self.pool.take_decode(decoders.count, decoders.pages_needed(ordinal))
        batch.decodes = decoders.count
        batch.context_tokens = decoders.context_tokens(ordinal)
        if self.config.attention_window is not None:
            window = self.config.attention_window
            reads = [min(decoders.committed(row) + 1, window) for row in self.batch.rows]
            batch.window_tokens = sum(reads)
        batch.samples += decoders.count
        batch.ordinal = decoders.schedule(batch.step)

    def _has_decode_room(self) -> bool:
        """Whether every row finds a place for its next token, after evicting what can be evicted."""
        needed = self.decoders.pages_needed(self.decoders.ordinal) * self.pool.page_size
        return self.pool.make_room(needed)

    def _rest_finishing(self) -> bool:
        """Drop the rows whose last token by length is in flight; return whether there are any."""
        if not self._in_flight or not self.config.async_scheduling:
            return False
        flying = self._in_flight[-1]
        finishing = [
            entry.sequence
            for entry in flying.entries
            if entry.samples and isinstance(entry.sequence, Row) and _ends_now(entry.sequence)
        ]
        if flying.ordinal >= 0:
            finishing += [row for row in self.decoders.enders(flying.ordinal) if row.foreseen]
        if not finishing:
            return False
        self._rest(finishing)
        return True

    def _rest(self, rows: list[Row]) -> None:
        """Schedule rows no longer: their last tokens are in flight."""
        for row in rows:
            self.decoders.rest(row)
        self.batch.rows = [row for row in self.batch.rows if not row.is_resting]

    # -- retraction -----------------------------------------------------------------------------------------

    def _retract_some(self) -> None:
        """Retract rows until the next token of the others fits; the last one is aborted if it does not."""
        decoders, pool, running = self.decoders, self.pool, self.batch
        kept = self._order_to_keep()
        page = pool.page_size
        needed = decoders.pages_needed(decoders.ordinal)
        retracted: list[Row] = []
        while len(kept) > 1 and not (retracted and pool.make_room(needed * page)):
            row = kept.pop()
            needed -= decoders.committed(row) % page == 0
            self._retract(row, len(kept))
            retracted.append(row)
        if len(kept) == 1 and not pool.make_room(needed * page):
            self._fail(kept.pop())
        running.rows = kept
        self._number(kept)
        self.ratio.settle([(decoders.generated(row), row.max_new) for row in kept])
        for row in retracted:
            self._enqueue(row, PREEMPTED)

    def _order_to_keep(self) -> list[Row]:
        """Return the running rows, those that are retracted first at the end."""
        return order_to_keep(self.batch.rows, self.config, self.decoders.generated)

    def _fail(self, row: Row) -> None:
        self._unseat(row)
        self.pool.release(row, row.committed, publish=False)
        self._forget(row)
        self.failed.append((row, _NO_MEMORY))


def _ends_now(row: Row) -> bool:
    """Whether the output in flight reaches the row's last by length."""
    return row.foreseen and row.inflight > 0 and row.outputs + 1 >= row.limit and not row.is_resting
