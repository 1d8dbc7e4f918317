"""vLLM's V1 scheduler in bulk: the decisions of `stepwise`, with steady decoders kept as aggregates.

While every running sequence either decodes or has prefill chunks left, a step costs a few operations
however many sequences decode, and a stretch of steps in which only tokens are appended costs as many as
it takes blocks. Whatever does not fit that (speculation, windows, priorities under memory pressure, a
chunk ahead of a decoder in the running list) goes step by step through the base class.
"""

from __future__ import annotations

from typing import NamedTuple

from simserve.cost.timer import Chunk
from simserve.registry import register
from simserve.scheduler.batch import Batch, Entry
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.sequence import FINISHED, RUNNING, Sequence
from simserve.scheduler.vllm.cohort import Cohort
from simserve.scheduler.vllm.observation import Observation
from simserve.scheduler.vllm.stepwise import EMPTY, MEMORY, OTHER, StepwiseScheduler
from simserve.workload.request import Request


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
class VllmScheduler(StepwiseScheduler):
    """vLLM V1: continuous batching with chunked prefill, paged KV cache, preemption by recompute.

    Args:
        config: Options.
        observe: Fill `Batch.observed` with what decision logs hold (slower).
        jump: Use aggregates and offer `horizon`; False decides step by step, with equal results.
    """

    def __init__(self, config: SchedulerConfig, *, observe: bool = False, jump: bool = True) -> None:
        super().__init__(config, observe=observe)
        single_group = len(config.kv_groups) == 1 and config.kv_groups[0].window is None
        self._can_jump = jump and single_group and config.speculative is None
        # Completions between two consecutive schedules of the same sequence (asynchronous scheduling).
        self._lag = config.queue_depth if config.async_scheduling else 1
        self._consecutive = config.async_scheduling or config.pipeline_parallel_size == 1
        self._partials: list[Sequence] = []
        # The cohort whose turn it is: always the same one with asynchronous scheduling, else the one that
        # has just completed (None while all are in flight).
        self._ready: Cohort | None = self._new_cohort() if self._can_jump else None
        self._steady = self._can_jump
        self._drop_at = -1

    def _new_cohort(self) -> Cohort:
        return Cohort(
            self.config.block_size, consecutive=self._consecutive, foresees=self.config.async_scheduling
        )

    def add(self, request: Request, arrival_order: float) -> Sequence:
        """Queue a request, as `StepwiseScheduler.add` does."""
        sequence = super().add(request, arrival_order)
        ends_by_length = request.prompt_tokens + request.max_tokens > self.config.max_model_len
        if self._lag > 2 and ends_by_length and self._can_jump:
            # A deep asynchronous pipeline sees this end earlier than one by max_tokens: step by step.
            self._can_jump = False
            if self._steady:
                self._leave_aggregate()
        return sequence

    # -- one step ---------------------------------------------------------------------------------------

    def schedule(self) -> Batch | None:
        """Decide the next step, as `StepwiseScheduler.schedule` does."""
        if self._steady and not self._fits_aggregate():
            self._leave_aggregate()
        if self._steady:
            return self._schedule_steady()
        batch = super().schedule()
        if batch is not None and self._can_jump and not self.preempted:
            self._enter_aggregate(batch)
        return batch

    def _fits_aggregate(self) -> bool:
        """Whether this step is decoders in any order, then chunks in order: where order cannot matter."""
        cohort = self._ready
        budget = self.config.max_num_batched_tokens
        if self._lag > 2 and any(sequence.inflight for sequence in self.waiting):
            return False  # a preempted one may come back before its token in flight has arrived
        takers = 0
        if cohort is not None and cohort.count:
            if cohort.count > budget:
                return False
            if self._partials and self._partials[0].order < cohort.last_order:
                return False
            takers = len(cohort.buckets[cohort.ordinal % cohort.block_size])
        if self.config.policy == "fcfs":
            return True
        wanted = sum(sequence.known - sequence.computed for sequence in self._partials)
        return takers + wanted // self.config.block_size + len(self._partials) <= self.pool.num_free

    def _schedule_steady(self) -> Batch | None:
        batch = Batch(self.steps)
        self.preempted = []
        if self.observe:
            self.observation = batch.observed = Observation(self)
        cohort = self._ready
        budget = self.config.max_num_batched_tokens
        if cohort is not None:
            ordinal = cohort.ordinal
            if self._lag > 1:
                cohort.drop_foreseen(ordinal - self._lag + 1)
            if cohort.count:
                self._take_blocks(cohort, ordinal)
                batch.decodes = cohort.count
                batch.context_tokens = cohort.context_at(ordinal)
                budget -= cohort.count
        if self._partials or self.waiting:
            batch.entries, batch.chunks = [], []
        if self._partials:
            budget = self._schedule_partials(batch, budget)
        self.admission = OTHER
        if not self.preempted:
            if self.waiting:
                self._schedule_waiting(batch, budget)
            else:
                self.admission = EMPTY
        if self.observe:
            self._observe(batch)
        if not batch.decodes and not batch.entries:
            return None
        self._commit_steady(batch)
        return batch

    def _take_blocks(self, cohort: Cohort, ordinal: int) -> None:
        """Give the decoders of a step the blocks they need, preempting from the end of the running list."""
        size = cohort.block_size
        pool = self.pool
        takers = cohort.buckets[ordinal % size]
        while len(takers) > pool.num_free:
            self._preempt_last(cohort, ordinal)
        if not cohort.sharing:
            if takers:
                pool.take_counted(len(takers))
            return
        for sequence in takers:
            if len(sequence.blocks) < sequence.shared_limit:
                block = pool.take(1)[0]
                pool.references[block] = 1
                sequence.blocks.append(block)
            else:
                pool.take_counted(1)
        self._publish_outputs(cohort, ordinal)

    def _publish_outputs(self, cohort: Cohort, ordinal: int) -> None:
        """Publish the blocks that this step fills (or confirms) with outputs that others may share."""
        size = cohort.block_size
        shift = ordinal - self._lag + 1
        for sequence in cohort.buckets[(shift + 1) % size]:
            if sequence.published < sequence.shared_limit:
                self.cache.publish(sequence, sequence.steady_tokens + shift - sequence.join_ordinal)

    def _schedule_partials(self, batch: Batch, budget: int) -> int:
        for sequence in list(self._partials):
            if budget <= 0:
                break
            if sequence.status != RUNNING:
                continue  # preempted by an earlier one
            want = self._count_wanted(sequence, budget)
            if want <= 0:
                continue
            tokens = min(sequence.computed + want, self.config.max_model_len)
            while not self.cache.grow(sequence, sequence.computed, tokens):
                victim = self.running[-1]
                self._preempt_last(self._ready, self._ready.ordinal + 1 if self._ready else 0)
                if victim is sequence:
                    return budget
            self.cache.publish(sequence, min(sequence.computed + want, sequence.known))
            batch.entries.append(Entry(sequence, want, sequence.computed, 0))
            budget -= want
        return budget

    def _commit_steady(self, batch: Batch) -> None:
        self.steps += 1
        is_async = self.config.async_scheduling
        cohort = self._ready
        if cohort is None:
            cohort = self._new_cohort()
        batch.cohort = cohort
        batch.ordinal = ordinal = cohort.ordinal
        cohort.ordinal = ordinal + 1
        if cohort.steps is not None:
            cohort.steps.append(batch.step)
        batch.samples = batch.decodes
        for entry in batch.entries:
            sequence = entry.sequence
            sequence.computed += entry.tokens
            batch.chunks.append(Chunk(entry.tokens, entry.computed_before))
            if sequence.computed < sequence.known:
                if sequence.tenure_start == batch.step:
                    self._partials.append(sequence)
                continue
            if sequence.tenure_start != batch.step:
                self._partials.remove(sequence)
            entry.samples = True
            batch.samples += 1
            sequence.decoding = True
            sequence.join_step = batch.step
            sequence.join_tokens = sequence.computed
            if is_async:
                sequence.inflight += 1
            if not cohort.join(sequence, batch, 1):
                batch.ends_some = True
        if not is_async:
            self._ready = None
        self._in_flight.append(batch)
        batch.running = len(self.running)
        batch.waiting = len(self.waiting)
        batch.used_blocks = self.pool.num_blocks - 1 - self.pool.num_free

    # -- outputs ----------------------------------------------------------------------------------------

    def complete(self, batch: Batch) -> list[Sequence]:
        """Take the outputs of the oldest batch in flight; returns the sequences that ended."""
        oldest = self._in_flight.popleft()
        assert oldest is batch, "batches complete in the order in which they were scheduled"
        cohort = batch.cohort
        ended: list[Sequence] = []
        if cohort is not None:
            if batch.observed:
                self._observe_outputs(batch, cohort)
            cohort.completed = batch.ordinal + 1
            ended = self._end_members(cohort, batch)
            if not self.config.async_scheduling:
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
        leaving = cohort.pop_leaving(ordinal)
        ended = cohort.pop_ended(ordinal)
        if not leaving and not ended:
            return []
        ends = [(sequence, ordinal + self._lag - 2) for sequence in leaving]
        for sequence in ended:
            if sequence.join_ordinal == ordinal:
                # Its first token, an EOS that nobody foresaw: an entry of this batch.
                self._count_private(sequence, cohort.ordinal - 1)
                sequence.cohort = None
            else:
                ends.append((sequence, cohort.ordinal - 1))
        if len(ends) > 1:
            ends.sort(key=lambda end: end[0].order)
        for sequence, scheduled in ends:
            self._finish_steady(sequence, cohort, batch, scheduled)
        return [sequence for sequence, _ in ends]

    def _finish_steady(self, sequence: Sequence, cohort: Cohort, batch: Batch, scheduled: int) -> None:
        """End a cohort's member with its last token; it was scheduled up to ordinal `scheduled`."""
        gained = batch.ordinal - sequence.join_ordinal
        self._count_private(sequence, scheduled)
        self._confirm(sequence, cohort, gained)
        sequence.finish_step = batch.step
        self.cache.publish(sequence, sequence.steady_tokens + gained)
        if sequence.spans is not None:
            sequence.close_tenure(batch.step, sequence.known - sequence.join_tokens - 1)
        sequence.cohort = None
        self.running.remove(sequence)
        self._end(sequence)

    def _count_private(self, sequence: Sequence, scheduled: int) -> None:
        """Write down the counted blocks that a member has taken since it joined."""
        tokens = sequence.steady_tokens + scheduled - sequence.join_ordinal
        sequence.private = -(-tokens // self.config.block_size) - len(sequence.blocks)

    def _confirm(self, sequence: Sequence, cohort: Cohort, gained: int) -> None:
        """Write the tokens that a member has gained since it joined into its own fields."""
        if gained <= 0:
            return
        if cohort.steps is None:
            first = sequence.first_token_step + sequence.outputs
            begin = sequence.steady_step + 1
            steps: range | list[int] = range(begin, begin + gained)
            if sequence.token_steps is None and steps[0] != first:
                sequence.note_tokens(steps[0], 1)
                gained -= 1
                steps = steps[1:]
        else:
            begin = sequence.join_ordinal + 1 - cohort.first_ordinal
            steps = cohort.steps[begin : begin + gained].tolist()
            if sequence.token_steps is None:
                for step in steps:
                    sequence.note_tokens(step, 1)
                return
        if sequence.token_steps is not None:
            sequence.token_steps.extend(steps)
        sequence.outputs += gained
        sequence.known += gained

    # -- leaving a cohort early -------------------------------------------------------------------------

    def _preempt_last(self, cohort: Cohort | None, ordinal: int) -> None:
        victim = self.running.pop()
        if victim.cohort is not None:
            self._detach(victim)
        elif not victim.decoding:
            self._partials.remove(victim)
        self._recompute_later(victim)

    def _detach(self, sequence: Sequence) -> None:
        """Give a cohort's member its own state again, and its tokens in flight to their batches."""
        cohort = sequence.cohort
        assert cohort is not None
        scheduled = self._settle(sequence, cohort)
        for batch in self._in_flight:
            if batch.cohort is cohort and sequence.join_ordinal < batch.ordinal <= scheduled:
                if batch.detached is None:
                    batch.detached = []
                batch.detached.append(sequence)
        cohort.remove(sequence)
        sequence.cohort = None

    def _settle(self, sequence: Sequence, cohort: Cohort) -> int:
        """Write a member's state into its own fields; returns the last ordinal it was scheduled in."""
        joined = sequence.join_ordinal
        scheduled = self._last_scheduled(sequence, cohort)
        self._count_private(sequence, scheduled)
        gained = max(0, min(cohort.completed - 1, sequence.finish_ordinal) - joined)
        self._confirm(sequence, cohort, gained)
        sequence.computed = sequence.steady_tokens + scheduled - joined
        if self.config.async_scheduling:
            sequence.inflight += scheduled - joined - gained
        published = sequence.steady_tokens + scheduled + 1 - joined - self._lag
        self.cache.publish(sequence, min(published, sequence.known))
        return scheduled

    def _last_scheduled(self, sequence: Sequence, cohort: Cohort) -> int:
        if cohort.is_leaving(sequence):
            return sequence.finish_ordinal + self._lag - 2
        return cohort.ordinal - 1

    def abort(self, request_id: int) -> Sequence | None:
        """Drop a request and free its blocks at once."""
        sequence = self.sequences.get(request_id)
        if sequence is not None and sequence.status == RUNNING:
            if sequence.cohort is not None:
                self._detach(sequence)
            elif sequence in self._partials:
                self._partials.remove(sequence)
        return super().abort(request_id)

    # -- between aggregate and step by step ---------------------------------------------------------------

    def _leave_aggregate(self) -> None:
        """Give every sequence its own state again."""
        for sequence in self.running:
            if sequence.cohort is not None:
                self._detach_in_place(sequence)
        for batch in self._in_flight:
            batch.cohort = None
        self._partials = []
        self._steady = False
        self._ready = None

    def _detach_in_place(self, sequence: Sequence) -> None:
        cohort = sequence.cohort
        assert cohort is not None
        scheduled = self._settle(sequence, cohort)
        for batch in self._in_flight:
            if batch.cohort is cohort and sequence.join_ordinal < batch.ordinal <= scheduled:
                entry = Entry(sequence, 1, 0, 0)
                entry.samples = True
                batch.entries = sorted([*batch.entries, entry], key=lambda each: each.sequence.order)
        sequence.cohort = None

    def _enter_aggregate(self, batch: Batch) -> None:
        """Form cohorts again after a step in which everything that runs was scheduled as usual."""
        members = {entry.sequence for entry in batch.entries}
        if not self._consecutive and len(self._in_flight) > 1:
            return  # a pipeline's other batches would need cohorts of their own: wait until it has drained
        for sequence in self.running:
            if sequence.decoding and sequence not in members and not self._is_ending(sequence):
                return
            if not sequence.foreseen and self._is_ending(sequence):
                return  # an EOS in flight, to be scheduled in vain until it is seen
            if not sequence.decoding and sequence.inflight:
                return
        is_async = self.config.async_scheduling
        cohort = self._new_cohort()
        if cohort.steps is not None:
            cohort.steps.append(batch.step)
        cohort.ordinal = 1
        batch.cohort = cohort
        for entry in batch.entries:
            sequence = entry.sequence
            if not entry.samples:
                continue
            if not cohort.join(sequence, batch, sequence.inflight if is_async else 1):
                batch.ends_some = True
        if is_async:
            for flying in self._in_flight:
                flying.ends_some = True  # outputs one by one until these have completed
        self._partials = [sequence for sequence in self.running if not sequence.decoding]
        self._ready = cohort if is_async else None
        self._steady = True

    def _is_ending(self, sequence: Sequence) -> bool:
        """Whether asynchronous scheduling only waits for a sequence's last token."""
        return sequence.inflight > 0 and sequence.outputs + sequence.inflight >= sequence.limit

    # -- stretches ----------------------------------------------------------------------------------------

    def horizon(self) -> int:
        """Return how many completions, each followed by the schedule() it allows, can pass unseen.

        In all of them nobody ends, nobody is admitted or preempted, and the batches are the same decoders.
        Counts from the oldest batch in flight; the engine must hold as many batches as it can.
        """
        flying = self._in_flight
        if not self._steady or not flying or self._partials or self.preempted:
            return 0
        if self.admission == OTHER and self.waiting:
            return 0
        is_async = self.config.async_scheduling
        cohorts = [flying[0].cohort] if is_async else [batch.cohort for batch in flying]
        limit = 1 << 30
        for index, batch in enumerate(flying):
            if batch.ends_some or batch.detached:
                limit = min(limit, index)
                break
        self._drop_at = -1
        if limit == 0:
            return 0
        turns = len(cohorts)
        total = 0
        for index, cohort in enumerate(cohorts):
            assert cohort is not None
            if not cohort.count:
                return min(limit, index)
            total += cohort.count
            end = cohort.next_end()
            limit = min(limit, index + turns * (end - flying[index].ordinal))
            if is_async and self._lag > 1:
                limit = self._foresee_drop(cohort, end, limit)
        if limit <= 0 or (self.admission == MEMORY and self._may_unblock(cohorts)):
            return 0
        if self.pool.num_free < total * (limit // (turns * self.config.block_size) + 1):
            limit = self._count_affordable(cohorts, limit)
        return limit

    def _foresee_drop(self, cohort: Cohort, end: int, limit: int) -> int:
        """Limit a stretch of an asynchronous engine to where foreseen ends thin the batch out."""
        drop = end + self._lag - 1 - cohort.ordinal
        group = cohort.finishers.get(end)
        if group is None or drop < 0:
            return limit
        foreseen = sum(sequence.foreseen for sequence in group)
        if foreseen == 0 or limit <= drop:
            return limit
        if foreseen == cohort.count:
            return drop
        self._drop_at = drop
        return drop + 1

    def _may_unblock(self, cohorts: list[Cohort | None]) -> bool:
        """Whether outputs published in a stretch could be hits of the blocked head of the queue."""
        if not any(cohort is not None and cohort.sharing for cohort in cohorts):
            return False
        head = self.waiting.head()
        hits, _ = self.cache.lookup(head, head.known)
        stream = self.cache.missed_stream(head, hits)
        return any(cohort is not None and stream in cohort.sharing for cohort in cohorts)

    def _count_affordable(self, cohorts: list[Cohort | None], limit: int) -> int:
        """Return how many of the coming `limit` decode steps find enough free blocks."""
        free = self.pool.num_free
        for count in range(limit):
            cohort = cohorts[count % len(cohorts)]
            assert cohort is not None
            ordinal = cohort.ordinal + count // len(cohorts)
            free -= len(cohort.buckets[ordinal % cohort.block_size])
            if free < 0:
                return count
        return limit

    def forecast(self, steps: int) -> Forecast:
        """Describe the decode batches of the coming `steps` schedules, as far as `horizon` has promised."""
        flying = self._in_flight
        is_async = self.config.async_scheduling
        cohorts = [flying[0].cohort] if is_async else [batch.cohort for batch in flying]
        shapes = [(cohort.count, cohort.context_at(cohort.ordinal)) for cohort in cohorts if cohort]
        if self._drop_at < 0 or steps != self._drop_at + 1:
            return Forecast(shapes, -1, -1)
        cohort = cohorts[0]
        assert cohort is not None
        last = cohort.ordinal + self._drop_at
        left = [s for s in cohort.finishers[last - self._lag + 1] if s.foreseen]
        context = cohort.context_at(last) - sum(s.steady_tokens + last - s.join_ordinal for s in left)
        return Forecast(shapes, cohort.count - len(left), context)

    def advance(self, steps: int, used_blocks: list[int] | None = None) -> tuple[int, int]:
        """Pass `steps` completions and schedules at once, at most as many as `horizon` returned.

        Args:
            steps: How many.
            used_blocks: If given, the blocks in use after each of the schedules are appended.

        Returns:
            Blocks in use after the first and after the last of the schedules.
        """
        flying = self._in_flight
        is_async = self.config.async_scheduling
        cohorts = [flying[0].cohort] if is_async else [batch.cohort for batch in flying]
        depth = len(flying)
        self.preempted = []
        for _ in range(min(steps, depth)):
            batch = flying.popleft()
            if batch.entries:
                self._complete_entries(batch)
        if len(cohorts) == 1 and used_blocks is None and not cohorts[0].sharing:  # type: ignore[union-attr]
            used = self._advance_counted(cohorts[0], steps, depth)  # type: ignore[arg-type]
        else:
            used = self._advance_cohorts(cohorts, steps, depth, used_blocks)  # type: ignore[arg-type]
        self.steps += steps
        self._drop_at = max(-1, self._drop_at - steps)
        if is_async:
            cohorts[0].completed = flying[0].ordinal  # type: ignore[union-attr]
        else:
            for batch in flying:
                batch.cohort.completed = batch.ordinal  # type: ignore[union-attr]
        return used

    def _advance_counted(self, cohort: Cohort, steps: int, depth: int) -> tuple[int, int]:
        """Schedule one cohort's next steps; its blocks are only counted, so they are taken in one go."""
        buckets, size = cohort.buckets, cohort.block_size
        pool = self.pool
        begin = cohort.ordinal
        end = begin + steps
        drop = begin + self._drop_at if 0 <= self._drop_at < steps else -1
        used = pool.num_blocks - 1 - pool.num_free
        whole, rest = divmod((end if drop < 0 else drop) - begin, size)
        taken = whole * cohort.count if whole else 0
        for ordinal in range(begin, begin + rest):
            taken += len(buckets[ordinal % size])
        first = used + (len(buckets[begin % size]) if drop != begin else 0)
        for ordinal in range(max(begin, end - depth), end):
            if ordinal == drop:
                cohort.drop_foreseen(ordinal - self._lag + 1)
                extra = len(buckets[ordinal % size])
                taken += extra
                if ordinal == begin:
                    first += extra
            self._in_flight.append(_decode_batch(self.steps + ordinal - begin, cohort, ordinal))
        if taken:
            pool.take_counted(taken)
        if cohort.steps is not None:
            cohort.steps.extend(range(self.steps, self.steps + steps))
        cohort.ordinal = end
        return first, used + taken

    def _advance_cohorts(
        self, cohorts: list[Cohort], steps: int, depth: int, used_blocks: list[int] | None
    ) -> tuple[int, int]:
        """Schedule the next steps of cohorts in turn, each with its blocks."""
        usable = self.pool.num_blocks - 1
        turns = len(cohorts)
        first = 0
        for index in range(steps):
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
            if index >= steps - depth:
                self._in_flight.append(_decode_batch(self.steps + index, cohort, ordinal))
        return first, usable - self.pool.num_free

    # -- what logs and checks ask for ----------------------------------------------------------------------

    def _observe(self, batch: Batch) -> None:
        """Put the steady decoders among the entries, in running order, for a decision log."""
        cohort = self._ready
        steady: list[Entry] = []
        if cohort is not None:
            for sequence in self.running:
                if sequence.cohort is cohort and not cohort.is_leaving(sequence):
                    computed = sequence.steady_tokens + cohort.ordinal - sequence.join_ordinal - 1
                    steady.append(Entry(sequence, 1, computed, 0))
        entries = batch.entries
        batch.entries = [*steady, *entries]
        batch.observed.finish(batch, self)
        batch.entries = entries

    def _observe_outputs(self, batch: Batch, cohort: Cohort) -> None:
        for sequence in self.running:
            if sequence.cohort is cohort and sequence.join_ordinal < batch.ordinal <= sequence.finish_ordinal:
                batch.observed.tokens_out[sequence.request.id] = 1

    @property
    def num_cached(self) -> int:
        """Distinct hashes in the prefix cache."""
        self._update_tables()
        return super().num_cached

    def check_integrity(self) -> None:
        """Check pool and tables, as `StepwiseScheduler.check_integrity` does."""
        self._update_tables()
        super().check_integrity()

    def _update_tables(self) -> None:
        """Write the members' counted blocks and hashes into their tables."""
        for sequence in self.running:
            cohort = sequence.cohort
            if cohort is not None:
                scheduled = self._last_scheduled(sequence, cohort)
                self._count_private(sequence, scheduled)
                tokens = sequence.steady_tokens + scheduled + 1 - sequence.join_ordinal - self._lag
                self.cache.publish(sequence, tokens)


def _decode_batch(step: int, cohort: Cohort, ordinal: int) -> Batch:
    batch = Batch(step)
    batch.cohort = cohort
    batch.ordinal = ordinal
    batch.decodes = batch.samples = cohort.count
    batch.context_tokens = cohort.context_at(ordinal)
    return batch
