"""Stretches in which every batch is the same decoders: how long they can be, and passing them at once.

While nobody waits, or nobody may join until somebody leaves, a pass only lets tokens be appended, pages be
taken and cached leaves be evicted, and the new-token ratio fall. None of that is seen from outside. With
overlap the last batch of a stretch can be one that leaves foreseen ends out.
"""

from __future__ import annotations

from simserve.scheduler.batch import Batch, Forecast, Usage, sum_windows
from simserve.scheduler.sequence import RUNNING
from simserve.scheduler.sglang.results import Results
from simserve.scheduler.sglang.row import Row


class DecodeStretch(Results):
    """`horizon`, `forecast` and `advance` of the contract (`scheduler.contract.Scheduler`)."""

    def horizon(self, owed: int = 0) -> int:
        """Return how many completions, each followed by a schedule, can pass with nothing to be seen."""
        decoders = self.decoders
        if not self._is_steady() or (owed and self.pool.awaits_time):
            return -owed  # what has expired or landed by now goes first
        limit = decoders.next_end() - decoders.completed
        leaving = self._foreseen_ends()
        if limit + owed <= 0 or len(leaving) == decoders.count or (leaving and self.config.attention_window):
            # The next batch leaves somebody out (what windows then read is not forecast), or there is none.
            limit -= 1
        schedules = self._count_affordable(limit + owed)
        return max(schedules - owed, -owed)

    def _is_steady(self) -> bool:
        """Whether the next pass is sure to decode all rows of the running batch, and only that."""
        batch = self.batch
        if not self._can_jump or self.observe or not self.decoders.count or self.chunked is not None:
            return False
        if len(self._micro_batches) > 1:
            return False  # they take turns: pass by pass
        if self._last is not None or self._deferrals or self.preempted or self.pool.moves_something:
            return False
        if self.waiting and (self._has_ended or not batch.full or self.config.preempts):
            return False
        return all(not flying.entries for flying in self._in_flight)

    def _foreseen_ends(self) -> list[Row]:
        """Return the rows that the batch after the next end leaves out: their last token is in flight."""
        if not self.config.async_scheduling:
            return []
        return [row for row in self.decoders.enders(self.decoders.next_end()) if row.foreseen]

    def _count_affordable(self, schedules: int) -> int:
        """Return how many of the coming decode steps find room, with all that can be evicted."""
        decoders, page = self.decoders, self.pool.page_size
        available = self.pool.steady_tokens(decoders.count) // page
        if available >= decoders.count * (schedules // page + 1):
            return schedules
        for index in range(schedules):
            available -= decoders.pages_needed(decoders.ordinal + index)
            if available < 0:
                return index
        return schedules

    def forecast(self, schedules: int) -> Forecast:
        """Describe the batches of the coming schedules."""
        decoders = self.decoders
        shape = (decoders.count, decoders.context_tokens(decoders.ordinal))
        last = decoders.ordinal + schedules - 1
        leaving = self._foreseen_ends() if last == decoders.next_end() + 1 else []
        if not leaving:
            return Forecast([shape], window_tokens=self._sum_windows(schedules))
        context = decoders.context_tokens(last) - sum([row.base + last + 1 for row in leaving])
        return Forecast([shape], decoders.count - len(leaving), context)

    def _sum_windows(self, schedules: int) -> tuple[int, ...]:
        window = self.config.attention_window
        if window is None:
            return (0,)
        rows = [row for row in self.batch.rows if row.status == RUNNING and not row.is_resting]
        return sum_windows([self.decoders.committed(row) + 1 for row in rows], window, schedules)

    def advance(self, steps: int, owed: int = 0, usage: list[Usage] | None = None) -> tuple[Usage, Usage]:
        """Pass `steps` completions and `owed + steps` schedules at once, as `horizon` has promised."""
        decoders, pool = self.decoders, self.pool
        self.preempted = []
        self._drop_ended()
        schedules = steps + owed
        begin = decoders.ordinal
        # What is left out with the last batch was in the ones before.
        thinned = decoders.next_end() + 1
        leaving = self._foreseen_ends() if begin <= thinned < begin + schedules else []
        used = pool.used_pages
        first = last = (used, pool.num_free_cached)
        for ordinal in range(begin, begin + schedules):
            if leaving and ordinal == thinned:
                decoders.schedule(self.steps, ordinal - begin)
                self._rest(leaving)
                self.batch.full = False
            pages = decoders.pages_needed(ordinal)
            pool.take_decode(decoders.count, pages)
            used += pages
            last = (used, pool.num_free_cached)
            if ordinal == begin:
                first = last
            if usage is not None:
                usage.append(last)
        passed = decoders.ordinal - begin
        decoders.schedule(self.steps + passed, schedules - passed)
        decoders.completed += steps
        self.ratio.decay(schedules)
        self.processed_tokens += schedules * self.batch.prefill_tokens
        self._fly(begin, steps, schedules)
        self.steps += schedules
        return first, last

    def _fly(self, begin: int, steps: int, schedules: int) -> None:
        """Let the batches that stay in flight follow those that have completed."""
        flying = self._in_flight
        depth = len(flying) + schedules - steps
        for _ in range(min(steps, len(flying))):
            flying.popleft()
        for index in range(max(0, schedules - depth), schedules):
            batch = Batch(self.steps + index)
            batch.ordinal = begin + index
            flying.append(batch)
