"""vLLM's V1 scheduler in bulk: the decisions of `stepwise`, with steady decoders kept as aggregates.

While every running sequence either decodes or has prefill chunks left, a step costs a few operations
however many sequences decode (`steady`), and a stretch of steps in which only tokens are appended costs as
many as it takes blocks (here). Whatever does not fit that (speculation, windows, priorities under memory
pressure, a chunk ahead of a decoder in the running list) goes step by step through the base class.
"""

from __future__ import annotations

from simserve.kvcache.run_pool import RunPool
from simserve.scheduler.batch import Batch, Forecast, Usage
from simserve.scheduler.vllm.admission import MEMORY, OTHER
from simserve.scheduler.vllm.cohort import Cohort
from simserve.scheduler.vllm.steady import SteadyScheduler


class VllmScheduler(SteadyScheduler):
    """vLLM V1: continuous batching, chunked prefill, paged KV cache, preemption by recompute (SOSP 2023).

    A stretch is a number of completions, each followed by the schedule() it allows, in which nobody ends, is
    admitted or preempted, and every batch is the same decoders: `horizon` says how long it can be, `forecast`
    what runs in it, `advance` passes it. A stretch may begin with a schedule that is owed: the engine has
    completed a batch, and the decision that follows is as foreseeable as the rest.
    """

    # The schedule of a stretch, counted from its first, in which foreseen ends thin the batch out; -1: none.
    _drop_at = -1
    # Sequences and sum of contexts in that schedule.
    _thinned = (-1, -1)

    def horizon(self, owed: int = 0) -> int:
        """Return how many completions can pass, each followed by a schedule, without anything to be seen.

        Args:
            owed: 1 if a schedule is due before the first of them, else 0 and the engine holds as many
                batches in flight as it can.

        Returns:
            At least 0, or -1 if a schedule is owed that must really be made.
        """
        self._drop_at = -1
        if self._partials or not self._steady or self.preempted:
            return -owed
        if self.tiers is not None and self.tiers.has_moves:
            return -owed
        if self.waiting and (owed or self.admission == OTHER):
            return -owed
        if not self._consecutive:
            return -1 if owed else self._horizon_in_turns()
        cohort = self._ready
        if cohort is None or not cohort.count:
            return -owed
        end = cohort.next_end()
        limit = end - cohort.completed
        if self._irregular:
            limit = min(limit, self._first_irregular())
            if limit <= 0 and not owed:
                return 0
        if self._is_async:
            # Foreseen ends thin the batch out before they are seen.
            drop = end + self._lag - 1 - cohort.ordinal
            if 0 <= drop < limit + owed and end in cohort.finishers:
                limit = self._foresee_drop(cohort, end, drop, limit, owed)
                if limit < 0:
                    return -1
        if self.waiting and self.admission == MEMORY and self._may_unblock():
            return 0
        schedules = limit + owed
        if self.pool.num_free < cohort.count * (schedules // cohort.block_size + 1):
            limit = self._count_affordable([cohort], schedules) - owed
        return limit

    def _horizon_in_turns(self) -> int:
        """The same for a pipeline whose batches in flight hold different cohorts."""
        flying = self._in_flight
        cohorts: list[Cohort] = []
        limit = self._first_irregular()
        if limit == 0:
            return 0
        turns = len(flying)
        total = 0
        for index, batch in enumerate(flying):
            cohort = batch.cohort
            assert cohort is not None
            if not cohort.count:
                limit = min(limit, index)
                break
            cohorts.append(cohort)
            total += cohort.count
            limit = min(limit, index + turns * (cohort.next_end() - batch.ordinal))
        if limit <= 0 or (self.waiting and self.admission == MEMORY and self._may_unblock()):
            return 0
        if self.pool.num_free < total * (limit // (turns * self.config.block_size) + 1):
            limit = self._count_affordable(cohorts, limit)
        return limit

    def _first_irregular(self) -> int:
        """Return how many batches in flight complete silently before the first that does not."""
        for index, batch in enumerate(self._in_flight):
            if batch.ends_some or batch.detached:
                return index
        return 1 << 30

    def _foresee_drop(self, cohort: Cohort, end: int, drop: int, limit: int, owed: int) -> int:
        """Limit a stretch to the schedule `drop`, which leaves the foreseen ends at ordinal `end` out."""
        count = cohort.count
        last = cohort.ordinal + drop
        context = cohort.base_context + count * last
        for sequence in cohort.finishers[end]:
            if sequence.foreseen:
                count -= 1
                context -= sequence.steady_tokens + last - sequence.join_ordinal
        if count == cohort.count:
            return limit
        if count == 0:
            return drop - owed
        self._drop_at = drop
        self._thinned = (count, context)
        return drop + 1 - owed

    def _may_unblock(self) -> bool:
        """Whether outputs published in a stretch could be hits of the blocked head of the queue."""
        stream = self.blocked_stream
        return stream is not None and stream in self._sharing

    def _count_affordable(self, cohorts: list[Cohort], limit: int) -> int:
        """Return how many of the coming `limit` decode steps find enough free blocks."""
        free = self.pool.num_free
        for count in range(limit):
            cohort = cohorts[count % len(cohorts)]
            ordinal = cohort.ordinal + count // len(cohorts)
            free -= len(cohort.buckets[ordinal % cohort.block_size])
            if free < 0:
                return count
        return limit

    def forecast(self, schedules: int) -> Forecast:
        """Describe the decode batches of the coming schedules, as far as `horizon` has promised them."""
        if self._consecutive:
            cohort = self._ready
            assert cohort is not None
            shapes = [(cohort.count, cohort.base_context + cohort.count * cohort.ordinal)]
            if 0 <= self._drop_at == schedules - 1:
                return Forecast(shapes, *self._thinned)
        else:
            cohorts = [batch.cohort for batch in self._in_flight if batch.cohort is not None]
            shapes = [(cohort.count, cohort.context_at(cohort.ordinal)) for cohort in cohorts]
        return Forecast(shapes, -1, -1)

    def advance(self, steps: int, owed: int = 0, usage: list[Usage] | None = None) -> tuple[Usage, Usage]:
        """Pass `steps` completions and `owed + steps` schedules at once; see `contract.Scheduler.advance`."""
        cohort = self._ready
        self.preempted = []
        if not self._consecutive or usage is not None or self._watched or self.observe:
            return self._advance_in_turns(steps, owed, usage)
        assert cohort is not None
        schedules = steps + owed
        depth = self._complete_silently(steps) + owed
        cohort.completed += steps
        # Blocks are only counted here, so those of all schedules but the first can be taken in one go.
        buckets, size = cohort.buckets, cohort.block_size
        begin = cohort.ordinal
        cohort.ordinal = end = begin + schedules
        plain = schedules - 1 if 0 <= self._drop_at == schedules - 1 else schedules
        taken = first = 0
        if plain:
            first = len(buckets[begin % size])
            # In as many steps as a block has tokens every member takes one.
            taken = plain // size * cohort.count
            for ordinal in range(begin, begin + plain % size):
                taken += len(buckets[ordinal % size])
        if plain < schedules:
            cohort.drop_foreseen(end - self._lag)
            thinned = len(buckets[(end - 1) % size])
            taken += thinned
            first = first if plain else thinned
        pool = self.pool
        used = pool.num_blocks - 1 - pool.num_free
        assert isinstance(pool, RunPool)
        if first:
            pool.take(first)
        cached = pool.num_free_cached
        if taken > first:
            pool.take(taken - first)
        step = self.steps - begin
        flying = self._in_flight
        for ordinal in range(end - depth if depth < schedules else begin, end):
            batch = Batch(step + ordinal)
            batch.cohort = cohort
            batch.ordinal = ordinal
            flying.append(batch)
        self.steps += schedules
        self._drop_at = max(-1, self._drop_at - schedules)
        return (used + first, cached), (used + taken, pool.num_free_cached)

    def _complete_silently(self, steps: int) -> int:
        """Take the outputs of the oldest batches, as many as are in flight; returns how many those were."""
        flying = self._in_flight
        depth = len(flying)
        for _ in range(steps if steps < depth else depth):
            batch = flying.popleft()
            if batch.entries:
                self._complete_entries(batch)
        return depth

    def _advance_in_turns(self, steps: int, owed: int, usage: list[Usage] | None) -> tuple[Usage, Usage]:
        """The same for cohorts in turn, and for blocks that are tracked one by one."""
        cohorts = [self._ready] if self._consecutive else [batch.cohort for batch in self._in_flight]
        depth = self._complete_silently(steps) + owed
        schedules = steps + owed
        usable = self.pool.num_blocks - 1
        held = []
        for index in range(schedules):
            cohort = cohorts[index % len(cohorts)]
            assert cohort is not None
            ordinal = cohort.ordinal
            if index == self._drop_at:
                cohort.drop_foreseen(ordinal - self._lag + 1)
            if self._watched or cohort.buckets[ordinal % cohort.block_size]:
                self._take_blocks(cohort, ordinal)
            held.append((usable - self.pool.num_free, self.pool.num_free_cached))
            cohort.ordinal = ordinal + 1
            if cohort.steps is not None:
                cohort.steps.append(self.steps + index)
            if index >= schedules - depth:
                batch = Batch(self.steps + index)
                batch.cohort = cohort
                batch.ordinal = ordinal
                self._in_flight.append(batch)
        if usage is not None:
            usage += held
        if self._consecutive and cohorts[0] is not None:
            cohorts[0].completed += steps
        elif not self._consecutive:
            for batch in self._in_flight:
                batch.cohort.completed = batch.ordinal  # type: ignore[union-attr]
        self.steps += schedules
        self._drop_at = max(-1, self._drop_at - schedules)
        return held[0], held[-1]
