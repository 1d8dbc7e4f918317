"""Stretches in which every batch is the same decoders: how long they can be, and passing them at once.

While nobody waits, or nobody may join until somebody leaves, a pass only lets tokens be appended, pages be
taken and cached leaves be evicted, and the new-token ratio fall. None of that is seen from outside.
"""

from __future__ import annotations

from simserve.scheduler.batch import Batch, Forecast
from simserve.scheduler.sglang.results import Results


class DecodeStretch(Results):
    """`horizon`, `forecast` and `advance` of the contract (`scheduler.contract.Scheduler`)."""

    def horizon(self, owed: int = 0) -> int:
        """Return how many completions, each followed by a schedule, can pass with nothing to be seen."""
        decoders = self.decoders
        if not self._is_steady():
            return -owed
        end = decoders.next_end()
        limit = end - decoders.completed
        if self.config.async_scheduling and any(row.foreseen for row in decoders.enders(end)):
            # The batch that leaves them out comes before their last token does.
            limit -= 1
        schedules = self._count_affordable(limit + owed)
        return max(schedules - owed, -owed)

    def _is_steady(self) -> bool:
        """Whether the next pass is sure to decode all rows of the running batch, and only that."""
        batch = self.batch
        if not self._can_jump or self.observe or not batch.rows or self.chunked is not None:
            return False
        if len(self._micro_batches) > 1:
            return False  # they take turns: pass by pass
        if self.config.attention_window is not None:
            return False  # what windows read is no line over the steps
        if self._last is not None or self._has_ended or self._deferrals or self.preempted:
            return False
        if self.waiting and (not batch.full or self.config.preempts):
            return False
        return all(not flying.entries for flying in self._in_flight)

    def _count_affordable(self, schedules: int) -> int:
        """Return how many of the coming decode steps find room, with all that can be evicted."""
        decoders, page = self.decoders, self.pool.page_size
        available = self.pool.available // page
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
        return Forecast([(decoders.count, decoders.context_tokens(decoders.ordinal))])

    def advance(self, steps: int, owed: int = 0, used_blocks: list[int] | None = None) -> tuple[int, int]:
        """Pass `steps` completions and `owed + steps` schedules at once, as `horizon` has promised."""
        decoders, pool = self.decoders, self.pool
        self.preempted = []
        schedules = steps + owed
        flying = self._in_flight
        depth = len(flying) + owed
        for _ in range(min(steps, len(flying))):
            flying.popleft()
        begin = decoders.ordinal
        used = pool.used_pages
        first = last = used
        for ordinal in range(begin, begin + schedules):
            pages = decoders.pages_needed(ordinal)
            pool.take_decode(decoders.count, pages)
            last += pages
            if ordinal == begin:
                first = last
            if used_blocks is not None:
                used_blocks.append(last)
        decoders.schedule(self.steps, schedules)
        decoders.completed += steps
        self.ratio.decay(schedules)
        self.processed_tokens += schedules * self.batch.prefill_tokens
        for index in range(max(0, schedules - depth), schedules):
            batch = Batch(self.steps + index)
            batch.ordinal = begin + index
            flying.append(batch)
        self.steps += schedules
        return first, last
