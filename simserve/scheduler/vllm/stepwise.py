"""vLLM's V1 scheduler, step by step and sequence by sequence: the reference that the fast one must equal.

There are no prefill and decode phases: every step moves each sequence's computed tokens towards the tokens
it knows. Rules 1 to 16 of vLLM 0.19.0's decision logs (`docs/background/vllm-scheduler.md`).
"""

from __future__ import annotations

from typing import Any

from simserve.cost.timer import Chunk
from simserve.kvcache.paged import NO_HITS
from simserve.scheduler.batch import Batch, Entry
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.sequence import PREEMPTED, RUNNING, Sequence
from simserve.scheduler.vllm.observation import Observation
from simserve.scheduler.vllm.outputs import OutputScheduler

# Why admission stopped in the last schedule(); decides for how long that holds.
EMPTY, SEATS, MEMORY, OTHER = range(4)


class StepwiseScheduler(OutputScheduler):
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
        self.admission = EMPTY
        # The head of the queue that found no room, how much was free, and the stream of its first miss.
        self._blocked: Sequence | None = None
        self._blocked_free = 0
        self.blocked_stream: int | None = None
        speculative = config.speculative
        self._lookahead = speculative.lookahead_tokens if speculative else 0
        windows = [group.window for group in config.kv_groups if group.window]
        self._window = min(windows) if windows else None
        self._admissions = 0

    # -- one step ---------------------------------------------------------------------------------------

    def schedule(self, now_ns: int = 0) -> Batch | None:
        """Decide the next step: running sequences first, then, if nobody was preempted, the waiting ones."""
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
            batch.observed.finish(batch, self)
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

    def _schedule_waiting(self, batch: Batch, budget: int) -> None:
        config = self.config
        while self.waiting:
            if budget <= 0:
                return
            if len(self.running) >= config.max_num_seqs:
                self.admission = SEATS
                return
            sequence = self.waiting.head()
            if sequence is self._blocked and self._is_still_blocked():
                self.admission = MEMORY
                return
            known = sequence.known
            hits, hit_tokens = self._lookup(sequence) if sequence.shared_limit else (NO_HITS, 0)
            want = known - hit_tokens
            if 0 < config.long_prefill_token_threshold < want:
                want = config.long_prefill_token_threshold
            if want > budget:
                if not config.enable_chunked_prefill:
                    return
                want = budget
            whole = min(known, config.max_model_len) if config.scheduler_reserve_full_isl else 0
            if not self.cache.admit(sequence, hits, hit_tokens, hit_tokens + want, whole):
                self._block(sequence, hits)
                return
            self.waiting.pop_head()
            self._seat(sequence, hit_tokens, batch)
            batch.entries.append(Entry(sequence, want, hit_tokens, 0))
            budget -= want
        self.admission = EMPTY

    def _block(self, sequence: Sequence, hits: Any) -> None:
        """Remember that the head of the queue found no room, and what could change that.

        Without the gate on whole prompts a smaller budget could: then a smaller chunk is asked for.
        """
        self.admission = MEMORY
        self._blocked = sequence if self.config.scheduler_reserve_full_isl else None
        self._blocked_free = self.pool.num_free
        self.cache.await_hit(sequence, hits)
        self.blocked_stream = self.cache.missed_stream(sequence, hits)

    def _is_still_blocked(self) -> bool:
        """Whether the head finds no room again: no more is free, and it hits no more than before."""
        pool = self.pool
        return pool.num_free <= self._blocked_free and not pool.awaited_published

    def _seat(self, sequence: Sequence, hit_tokens: int, batch: Batch) -> None:
        """Move an admitted sequence to the running list."""
        if batch.observed:
            batch.observed.admit(sequence)
        sequence.status = RUNNING
        sequence.computed = hit_tokens
        sequence.tenure_start = self.steps
        sequence.tenure_hit = hit_tokens
        if sequence.cached_tokens < 0:
            sequence.cached_tokens = hit_tokens
            sequence.first_step = self.steps
        else:
            sequence.join_step = -1
            assert sequence.spans is not None
            _, first, _, _ = sequence.spans[-1]
            sequence.spans[-1] = ("preempted", first, self.steps - 1, 0)
        self._admissions += 1
        sequence.order = self._admissions
        self.running.append(sequence)

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
