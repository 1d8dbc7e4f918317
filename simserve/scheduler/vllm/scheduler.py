"""vLLM's V1 scheduler in bulk: the decisions of `stepwise`, with steady decoders kept as aggregates.

While every running sequence either decodes or has prefill chunks left, a step costs a few operations
however many sequences decode (`steady`), and a stretch of steps in which only tokens are appended costs as
many as it takes blocks (here). Whatever does not fit that (speculation, windows, priorities under memory
pressure, a chunk ahead of a decoder in the running list) goes step by step through the base class.
"""

from __future__ import annotations

from typing import NamedTuple

from simserve.registry import register
from simserve.scheduler.batch import Batch
from simserve.scheduler.vllm.cohort import Cohort
from simserve.scheduler.vllm.steady import SteadyScheduler
from simserve.scheduler.vllm.stepwise import MEMORY, OTHER


class Forecast(NamedTuple):
    """The decode batches of coming steps, for pricing.

    Attributes:
        cohorts: (sequences, sum of contexts) of the next step of each cohort, in turn.
        last_sequences, last_context: The same for the very last step where it has fewer, else -1.
    """

    cohorts: list[tuple[int, int]]
    last_sequences: int
    last_context: int


@register("engine", "vllm")
class VllmScheduler(SteadyScheduler):
    """vLLM V1: continuous batching with chunked prefill, paged KV cache, preemption by recompute.

    A stretch is a number of completions, each followed by the schedule() it allows, in which nobody ends, is
    admitted or preempted, and every batch is the same decoders: `horizon` says how long it can be, `forecast`
    what runs in it, `advance` passes it. A stretch may begin with a schedule that is owed: the engine has
    completed a batch, and the decision that follows is as foreseeable as the rest.
    """

    # The schedule of a stretch, counted from its first, in which foreseen ends thin the batch out; -1: none.
    _drop_at = -1

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
            limit = self._foresee_drop(cohort, end, limit, owed)
            if limit < 0:
                return -1
        if self.waiting and self.admission == MEMORY and self._may_unblock([cohort]):
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
        if limit <= 0 or (self.waiting and self.admission == MEMORY and self._may_unblock(cohorts)):
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

    def _foresee_drop(self, cohort: Cohort, end: int, limit: int, owed: int) -> int:
        """Limit a stretch of an asynchronous engine to where foreseen ends thin the batch out."""
        drop = end + self._lag - 1 - cohort.ordinal
        if drop < 0 or limit + owed <= drop:
            return limit
        group = cohort.finishers.get(end)
        if group is None:
            return limit
        foreseen = 0
        for sequence in group:
            if sequence.foreseen:
                foreseen += 1
        if foreseen == 0:
            return limit
        if foreseen == cohort.count:
            return drop - owed
        self._drop_at = drop
        return drop + 1 - owed

    def _may_unblock(self, cohorts: list[Cohort]) -> bool:
        """Whether outputs published in a stretch could be hits of the blocked head of the queue."""
        if not any(cohort.sharing for cohort in cohorts):
            return False
        head = self.waiting.head()
        hits, _ = self.cache.lookup(head, head.known)
        stream = self.cache.missed_stream(head, hits)
        return any(stream in cohort.sharing for cohort in cohorts)

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
                return self._thin_out(cohort, shapes)
        else:
            cohorts = [batch.cohort for batch in self._in_flight if batch.cohort is not None]
            shapes = [(cohort.count, cohort.context_at(cohort.ordinal)) for cohort in cohorts]
        return Forecast(shapes, -1, -1)

    def _thin_out(self, cohort: Cohort, shapes: list[tuple[int, int]]) -> Forecast:
        last = cohort.ordinal + self._drop_at
        count, context = cohort.count, cohort.context_at(last)
        for sequence in cohort.finishers[last - self._lag + 1]:
            if sequence.foreseen:
                count -= 1
                context -= sequence.steady_tokens + last - sequence.join_ordinal
        return Forecast(shapes, count, context)

    def advance(self, steps: int, owed: int = 0, used_blocks: list[int] | None = None) -> tuple[int, int]:
        """Pass `steps` completions and `owed + steps` schedules at once, as `horizon` has promised.

        Args:
            steps: Completions.
            owed: 1 if a schedule comes before the first of them.
            used_blocks: If given, the blocks in use after each of the schedules are appended.

        Returns:
            Blocks in use after the first and after the last of the schedules.
        """
        flying = self._in_flight
        depth = len(flying)
        schedules = steps + owed
        self.preempted = []
        cohort = self._ready
        cohorts = [batch.cohort for batch in flying] if not self._consecutive else None
        for _ in range(steps if steps < depth else depth):
            batch = flying.popleft()
            if batch.entries:
                self._complete_entries(batch)
        depth += owed
        if cohorts is None:
            assert cohort is not None
            cohort.completed += steps
            if used_blocks is None and not cohort.sharing:
                used = self._advance_counted(cohort, schedules, depth)
            else:
                used = self._advance_in_turns([cohort], schedules, depth, used_blocks)
        else:
            used = self._advance_in_turns(cohorts, schedules, depth, used_blocks)  # type: ignore[arg-type]
            for batch in flying:
                batch.cohort.completed = batch.ordinal  # type: ignore[union-attr]
        self.steps += schedules
        self._drop_at = max(-1, self._drop_at - schedules)
        return used

    def _advance_counted(self, cohort: Cohort, schedules: int, depth: int) -> tuple[int, int]:
        """Schedule one cohort's next steps; its blocks are only counted, so they are taken in one go."""
        buckets, size = cohort.buckets, cohort.block_size
        pool = self.pool
        begin = cohort.ordinal
        end = begin + schedules
        drop = end - 1 if 0 <= self._drop_at == schedules - 1 else -1
        used = pool.num_blocks - 1 - pool.num_free
        plain = schedules - (drop >= 0)
        taken = first = 0
        if plain:
            first = len(buckets[begin % size])
            whole, rest = divmod(plain, size)
            for ordinal in range(begin, begin + rest):
                taken += len(buckets[ordinal % size])
            if whole:
                taken += whole * cohort.count
        if drop >= 0:
            cohort.drop_foreseen(drop - self._lag + 1)
            extra = len(buckets[drop % size])
            taken += extra
            if not plain:
                first = extra
        step = self.steps - begin
        for ordinal in range(max(begin, end - depth), end):
            self._in_flight.append(_decode_batch(step + ordinal, cohort, ordinal))
        if taken:
            pool.take_counted(taken)
        cohort.ordinal = end
        return used + first, used + taken

    def _advance_in_turns(
        self, cohorts: list[Cohort], schedules: int, depth: int, used_blocks: list[int] | None
    ) -> tuple[int, int]:
        """Schedule the next steps of cohorts in turn, each with its blocks."""
        usable = self.pool.num_blocks - 1
        turns = len(cohorts)
        first = 0
        for index in range(schedules):
            cohort = cohorts[index % turns]
            ordinal = cohort.ordinal
            if index == self._drop_at:
                cohort.drop_foreseen(ordinal - self._lag + 1)
            if cohort.sharing or cohort.buckets[ordinal % cohort.block_size]:
                self._take_blocks(cohort, ordinal)
            if index == 0:
                first = usable - self.pool.num_free
            if used_blocks is not None:
                used_blocks.append(usable - self.pool.num_free)
            cohort.ordinal = ordinal + 1
            if cohort.steps is not None:
                cohort.steps.append(self.steps + index)
            if index >= schedules - depth:
                self._in_flight.append(_decode_batch(self.steps + index, cohort, ordinal))
        return first, usable - self.pool.num_free


def _decode_batch(step: int, cohort: Cohort, ordinal: int) -> Batch:
    """A batch of a cohort's members only; it has been priced already."""
    batch = Batch(step)
    batch.cohort = cohort
    batch.ordinal = ordinal
    return batch
