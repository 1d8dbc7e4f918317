"""One step with steady decoders as an aggregate: O(1) in how many of them there are."""

from __future__ import annotations

from simserve.cost.timer import Chunk
from simserve.kvcache.run_pool import RunPool
from simserve.scheduler.batch import Batch, Entry
from simserve.scheduler.sequence import RUNNING
from simserve.scheduler.vllm.admission import EMPTY, OTHER
from simserve.scheduler.vllm.cohort import Cohort
from simserve.scheduler.vllm.observation import Observation
from simserve.scheduler.vllm.steady_outputs import SteadyOutputs


class SteadyScheduler(SteadyOutputs):
    """`schedule()` where a step is steady decoders in any order, then chunks in order."""

    # -- one step ---------------------------------------------------------------------------------------

    def schedule(self, now_ns: int = 0) -> Batch | None:
        """Decide the next step, as `StepwiseScheduler.schedule` does."""
        tiers = self.tiers
        if tiers is not None:
            self._begin_decision(now_ns)
        if self._steady and self._fits_aggregate():
            batch = self._schedule_steady()
        else:
            if self._steady:
                self._leave_aggregate()
            batch = self._decide_one_by_one()
            if batch is not None and self._can_jump and not self.preempted:
                self._enter_aggregate(batch)
        if tiers is not None:
            self._end_decision(batch)
        return batch

    def _fits_aggregate(self) -> bool:
        """Whether the order of decoders and chunks cannot matter in this step.

        It does not where the chunks come after the decoders, or budget and blocks suffice for all; who is to
        be preempted by priority depends on it.
        """
        cohort = self._ready
        budget = self.config.max_num_batched_tokens
        if self._lag > 2 and not self._fits_deep_pipeline():
            return False
        takers = count = 0
        if cohort is not None and cohort.count:
            count = cohort.count
            if count > budget:
                return False
            takers = len(cohort.buckets[cohort.ordinal % cohort.block_size])
        partials = self._partials
        mixed = count > 0 and len(partials) > 0 and partials[0].order < cohort.last_order  # type: ignore[union-attr]
        if not mixed and self.config.policy == "fcfs":
            return True
        if mixed and self.observe:
            return False  # who takes which block depends on the order
        wanted = sum(sequence.known - sequence.computed for sequence in partials)
        if mixed and count + wanted > budget:
            return False
        return takers + wanted // self.config.block_size + len(partials) <= self.pool.num_free

    def _fits_deep_pipeline(self) -> bool:
        """Whether an asynchronous pipeline of three stages or more is regular."""
        for sequence in self.waiting:
            if sequence.inflight:
                return False  # preempted: it may come back before its token in flight has arrived
            most = sequence.request.prompt_tokens + sequence.request.max_tokens + self._lag - 2
            if most > self.config.max_model_len:
                self._can_jump = False  # such an end is seen earlier than one by max_tokens
                return False
        return True

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
                if self._watched or cohort.buckets[ordinal % cohort.block_size]:
                    self._take_blocks(cohort, ordinal)
                batch.decodes = count = cohort.count
                batch.context_tokens = cohort.base_context + count * ordinal
                budget -= count
        if self._partials or self.waiting:
            batch.entries, batch.chunks = [], []
        if self._partials:
            budget = self._schedule_partials(batch, budget)
        self.admission = OTHER
        if not self.preempted:
            if self.waiting:
                self._deciding = True
                self._schedule_waiting(batch, budget)
                self._deciding = False
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
            self._preempt_last()
        if self.observe:
            for sequence in takers:
                self.cache.grow(sequence, 0, sequence.steady_tokens + ordinal - sequence.join_ordinal)
        elif takers:
            assert isinstance(pool, RunPool)
            pool.take(len(takers))
        if self._watched:
            self._publish_outputs(cohort, ordinal)

    def _publish_outputs(self, cohort: Cohort, ordinal: int) -> None:
        """Publish the blocks that this step fills (or confirms) with outputs that somebody asks for."""
        shift = ordinal - self._lag + 1
        for sequence in cohort.buckets[(shift + 1) % cohort.block_size]:
            if sequence.request.output_stream in self._watched:
                self._count_private(sequence, ordinal)
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
                self._preempt_last()
                if victim is sequence:
                    return budget
            self.cache.publish(sequence, min(sequence.computed + want, sequence.known))
            batch.entries.append(Entry(sequence, want, sequence.computed, 0))
            budget -= want
        return budget

    def _commit_steady(self, batch: Batch) -> None:
        self.steps += 1
        is_async = self._is_async
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
            batch.prefill_tokens += entry.tokens
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
            self._join(sequence, cohort, batch, 1)
        if not self._consecutive:
            self._ready = None
        self._in_flight.append(batch)
        batch.running = len(self.running)
        batch.waiting = len(self.waiting)
        batch.used_blocks = self.pool.num_blocks - 1 - self.pool.num_free

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
        batch.observed.finish(batch, self, self.preempted)
        batch.entries = entries

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
                self._publish_member(sequence, cohort)
