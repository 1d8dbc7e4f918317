"""Who of the waiting gets a seat, strictly from the head: rules 3, 9 and 10 of vLLM 0.19.0's logs."""

from __future__ import annotations

from typing import Any

from simserve.kvcache.run import NO_HITS
from simserve.scheduler.batch import Batch, Entry
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.sequence import Sequence
from simserve.scheduler.vllm.outputs import OutputScheduler

# Why admission stopped in the last schedule(); decides for how long that holds.
EMPTY, SEATS, MEMORY, OTHER = range(4)


class AdmissionScheduler(OutputScheduler):
    """Admits waiting requests as far as budget, seats and blocks reach.

    Attributes:
        admission: Why it stopped in the last schedule().
        blocked_stream: The stream of the first token that the head of the queue, which found no room, misses.
    """

    def __init__(self, config: SchedulerConfig, *, observe: bool = False) -> None:
        super().__init__(config, observe=observe)
        self.admission = EMPTY
        # The head of the queue that found no room, and how much was free.
        self._blocked: Sequence | None = None
        self._blocked_free = 0
        self.blocked_stream: int | None = None
        self._admissions = 0

    def _schedule_waiting(self, batch: Batch, budget: int) -> None:
        if self.tiers is not None:
            self._schedule_or_load(batch, budget)
            return
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

    def _schedule_or_load(self, batch: Batch, budget: int) -> None:
        """The same with tiers behind the KV pool; see `LoadingScheduler`."""
        raise NotImplementedError

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
        sequence.take_seat(self.steps, hit_tokens)
        sequence.computed = hit_tokens
        self._admissions += 1
        sequence.order = self._admissions
        self.running.append(sequence)
