"""A prefill pass: the running chunk goes on, waiting requests join it, and decoders may come along."""

from __future__ import annotations

from simserve.cost.timer import Chunk
from simserve.scheduler.batch import Batch, Entry
from simserve.scheduler.sequence import PREEMPTED, RUNNING
from simserve.scheduler.sglang.budget import PrefillBudget, Verdict
from simserve.scheduler.sglang.decode import DecodePass
from simserve.scheduler.sglang.preemption import choose_victims
from simserve.scheduler.sglang.row import Row
from simserve.scheduler.sglang.row_batch import RowBatch


class PrefillPass(DecodePass):
    """Decides prefill and mixed batches."""

    def _form_prefill(self) -> Batch | None:
        """Admit what fits; None if nobody joins and no chunk goes on."""
        running, config = self.batch, self.config
        if config.preempts or not running.rows:
            running.full = False
        if self.chunked is None:
            if running.full or not self.waiting:
                return None
            if self._seats(0) <= 0 and not config.preempts:
                running.full = True
                return None
        self.order.sort(self.waiting, running.rows, self.processed_tokens)
        budget = self._open_budget()
        if self.chunked is not None:
            self._continue_chunk(self.chunked, budget)
        continued = len(budget.admitted)
        preempted = self._try_waiting(budget)
        self.displaced = len(preempted)
        self._leave_queue(budget.admitted[continued:])
        for row in preempted:
            self._enqueue(row, PREEMPTED)
        if not budget.admitted:
            return None
        self.chunked = self.chunked or budget.chunked
        return self._prefill_batch(budget)

    def _open_budget(self) -> PrefillBudget:
        rows, generated = self.batch.rows, self.decoders.generated
        running = [(row, generated(row)) for row in rows]
        mixed = len(rows) if self.config.is_mixed else 0
        return PrefillBudget(self.config, self.pool, self.ratio.current, running, mixed)

    def _seats(self, held: int) -> int:
        """Return how many requests this batch may hold, `held` of which have a row already."""
        config = self.config
        free_rows = config.max_running_requests - len(self.running)
        return min(config.micro_batch_size - len(self.batch.rows), free_rows + held)

    def _continue_chunk(self, row: Row, budget: PrefillBudget) -> None:
        row.filled = row.known
        limit = self.order.chunk_limit(row, self.waiting, budget.rem_chunk or 0)
        if budget.continue_chunk(row, limit):
            self.chunked = None

    def _try_waiting(self, budget: PrefillBudget) -> list[Row]:
        """Admit waiting requests in order until one does not fit; return those preempted for them."""
        running, pool = self.batch, self.pool
        held = len(budget.admitted)
        preempted: list[Row] = []
        for row in self.waiting:
            if budget.state is Verdict.OTHER:
                break
            if len(budget.admitted) >= self._seats(held):
                running.full = True
            if running.full and not (self.config.preempts and self._preempt_for(row, budget, preempted)):
                break
            if not pool.look_up(row):
                continue
            row.filled = row.known
            verdict = budget.admit(row, has_chunk=self.chunked is not None)
            if verdict is not Verdict.CONTINUE:
                if verdict is Verdict.NO_TOKEN:
                    running.full = bool(budget.admitted or running.rows)
                break
        return preempted

    def _leave_queue(self, admitted: list[tuple[Row, int]]) -> None:
        """Take admitted requests out of the queue: the first ones, but for those that wait for storage."""
        waiting, count = self.waiting, len(admitted)
        if not count or waiting[count - 1] is admitted[-1][0]:
            del waiting[:count]
        else:
            taken = {row.id for row, _ in admitted}
            waiting[:] = [row for row in waiting if row.id not in taken]

    def _preempt_for(self, row: Row, budget: PrefillBudget, preempted: list[Row]) -> bool:
        """Take the rows of running requests of lower priority, if that makes room for a waiting one."""
        running, generated = self.batch, self.decoders.generated
        victims = choose_victims(row, running.rows, budget, self.config, generated)
        remaining = len(running.rows)
        for victim in [each for each in running.rows if each in victims]:
            budget.give_back(victim, generated(victim))
            remaining -= 1
            self._retract(victim, remaining)
        running.rows = [each for each in running.rows if each not in victims]
        preempted += victims
        return bool(victims)

    # -- the batch ------------------------------------------------------------------------------------------

    def _prefill_batch(self, budget: PrefillBudget) -> Batch:
        """Take memory and rows for what was admitted."""
        self.pool.take_prefill(budget.admitted)
        batch = Batch(self.steps)
        batch.entries, batch.chunks = [], []
        rows = []
        for row, tokens in budget.admitted:
            if row.status != RUNNING:
                self._seat(row)
            rows.append(row)
            entry = Entry(row, tokens, row.prefix, 0)
            batch.entries.append(entry)
            batch.chunks.append(Chunk(tokens, row.prefix))
            batch.prefill_tokens += tokens
            row.computed = row.committed
            if row is not self.chunked:
                entry.samples = True
                batch.samples += 1
                row.inflight = 1
                row.decoding = True
                row.join_step = batch.step
                row.join_tokens = row.committed
        batch.ordinal = -1
        self._last = RowBatch(rows, prefill_tokens=batch.prefill_tokens, chunked=self.chunked)
        if self.config.is_mixed and self.batch.rows:
            self._mix(batch, self._last)
        self.processed_tokens += self._last.prefill_tokens
        return batch

    def _mix(self, batch: Batch, prefill: RowBatch) -> None:
        """Let the running batch decode along; it sits out where the prefill has left no room."""
        running = self.batch
        if self._rest_finishing():
            running.full = False
        if not running.rows or not self._has_decode_room():
            return
        if self.config.preempts:
            for row in running.rows:
                row.filled = row.request.prompt_tokens + self.decoders.generated(row)
        self._decode_in(batch)
        prefill.rows += running.rows
        prefill.prefill_tokens += len(running.rows)
        self.batch = RowBatch([], full=running.full)
