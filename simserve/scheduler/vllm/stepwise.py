"""vLLM's V1 scheduler, step by step and sequence by sequence: the reference that the fast one must equal.

There are no prefill and decode phases: every step moves each sequence's computed tokens towards the tokens
it knows. Rules 1 to 16 of vLLM 0.19.0's decision logs (`docs/background/vllm-scheduler.md`).
"""

from __future__ import annotations

from simserve.cost.timer import Chunk
from simserve.scheduler.batch import Batch, Entry
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.sequence import PREEMPTED, Sequence
from simserve.scheduler.vllm.admission import OTHER
from simserve.scheduler.vllm.loading import LoadingScheduler
from simserve.scheduler.vllm.observation import Observation


class StepwiseScheduler(LoadingScheduler):
    """`schedule()` picks the next batch, `complete(batch)` takes its outputs; several may be in flight.

    Args:
        config: Options.
        observe: Fill `Batch.observed` with what decision logs hold (slower).

    Attributes:
        preempted: Sequences preempted by the last schedule(), in order.
        observation: What the last schedule() did, when observing (also when it scheduled nothing).
    """

    def __init__(self, config: SchedulerConfig, *, observe: bool = False) -> None:
        super().__init__(config, observe=observe)
        self.preempted: list[Sequence] = []
        self.observation: Observation | None = None
        windows = [group.window for group in config.kv_groups if group.window]
        self._window = min(windows) if windows else None

    # -- one step ---------------------------------------------------------------------------------------

    def schedule(self, now_ns: int = 0) -> Batch | None:
        """Decide the next step: running sequences first, then, if nobody was preempted, the waiting ones."""
        if self.tiers is not None:
            self._begin_decision(now_ns)
        batch = self._decide_one_by_one()
        if self.tiers is not None:
            self._end_decision(batch)
        return batch

    def _decide_one_by_one(self) -> Batch | None:
        batch = Batch(self.steps)
        batch.entries, batch.chunks = [], []
        self.preempted = []
        if self.observe:
            self.observation = batch.observed = Observation(self)
        budget = self._schedule_running(batch, self.config.max_num_batched_tokens)
        self.admission = OTHER
        if not self.preempted:
            self._schedule_waiting(batch, budget)
        if self.observe:
            batch.observed.finish(batch, self, self.preempted)
        if not batch.entries:
            return None
        self._commit(batch)
        self._in_flight.append(batch)
        return batch

    def _schedule_running(self, batch: Batch, budget: int) -> int:
        index = 0
        while index < len(self.running) and budget > 0:
            sequence = self.running[index]
            index += 1
            want = self._count_wanted(sequence, budget)
            if want <= 0:
                continue
            tokens = min(sequence.computed + want + self._lookahead, self.config.max_model_len)
            while not self.cache.grow(sequence, sequence.computed, tokens):
                victim = self._choose_victim()
                scheduled = self._preempt(victim, batch)
                if scheduled is not None:
                    budget += scheduled.tokens
                    index -= 1
                if victim is sequence:
                    return budget
            drafts = max(0, want + sequence.computed - sequence.known - sequence.inflight)
            self.cache.publish(sequence, min(sequence.computed + want, sequence.known))
            sequence.drafts = 0
            batch.entries.append(Entry(sequence, want, sequence.computed, drafts))
            budget -= want
        return budget

    def _count_wanted(self, sequence: Sequence, budget: int) -> int:
        config = self.config
        request = sequence.request
        if (
            sequence.inflight > 0
            and sequence.computed + 2 - sequence.inflight >= request.prompt_tokens + request.max_tokens
        ):
            return 0  # its last token is in flight (asynchronous scheduling)
        want = sequence.known + sequence.drafts + sequence.inflight - sequence.computed
        if 0 < config.long_prefill_token_threshold < want:
            want = config.long_prefill_token_threshold
        return min(want, budget, config.max_model_len - 1 - sequence.computed)

    # -- preemption by recompute ------------------------------------------------------------------------

    def _choose_victim(self) -> Sequence:
        if self.config.policy == "priority":
            return max(self.running, key=lambda s: (s.request.priority, s.arrival_order))
        return self.running[-1]

    def _preempt(self, victim: Sequence, batch: Batch) -> Entry | None:
        """Take a sequence's blocks and seat; returns its entry in this batch if it was scheduled already."""
        scheduled = None
        if self.config.policy == "priority":
            for entry in batch.entries:
                if entry.sequence is victim:
                    scheduled = entry
                    batch.entries.remove(entry)
                    break
        self.running.remove(victim)
        self._recompute_later(victim)
        return scheduled

    def _recompute_later(self, victim: Sequence) -> None:
        if self.tiers is not None:
            self.tiers.store(victim, min(victim.computed, victim.known))
        self.cache.evict_all(victim)
        victim.close_tenure(self.steps - 1, victim.computed - victim.join_tokens)
        assert victim.spans is not None
        victim.spans.append(("preempted", self.steps, self.steps, 0))
        victim.computed = 0
        victim.drafts = 0
        victim.decoding = False
        victim.preemptions += 1
        victim.status = PREEMPTED
        self.waiting.push_back(victim)
        self.preempted.append(victim)

    # -- after the decision -----------------------------------------------------------------------------

    def _commit(self, batch: Batch) -> None:
        """Count the scheduled tokens as computed at once: the next chunk can be scheduled meanwhile."""
        self.steps += 1
        is_async = self.config.async_scheduling
        for entry in batch.entries:
            sequence = entry.sequence
            sequence.computed += entry.tokens
            expected = sequence.known + sequence.inflight
            if sequence.decoding and entry.tokens == 1:
                batch.decodes += 1
                batch.context_tokens += entry.computed_before + 1
                if self._window:
                    batch.window_tokens += min(entry.computed_before + 1, self._window)
            else:
                batch.chunks.append(Chunk(entry.tokens, entry.computed_before))
                batch.prefill_tokens += entry.tokens
            if sequence.computed < expected:
                continue
            entry.samples = True
            entry.drafts = sequence.computed - expected
            batch.samples += 1 + entry.drafts
            if not sequence.decoding:
                sequence.decoding = True
                sequence.join_step = batch.step
                sequence.join_tokens = sequence.computed
            if is_async:
                sequence.inflight += 1 + entry.drafts
                sequence.drafts = self._drafts
        self._snapshot(batch)

    def _snapshot(self, batch: Batch) -> None:
        batch.running = len(self.running)
        batch.waiting = len(self.waiting)
        batch.used_blocks = self.pool.num_blocks - 1 - self.pool.num_free

    def horizon(self, owed: int = 0) -> int:
        """Return how many completions can pass unseen; see `VllmScheduler.horizon`. Here: none."""
        return -owed
