"""Admission where tiers lie behind the KV pool: what a request finds there is loaded, not computed.

As vLLM's `schedule()` does it with a KV connector (vllm/v1/core/sched/scheduler.py, 0.19 and later): a
request whose load runs beside the steps gets blocks and no seat (WAITING_FOR_REMOTE_KVS), is passed over
until it has landed, and joins then; a load that the step waits for admits it at once.
"""

from __future__ import annotations

from typing import Any

from simserve.scheduler.batch import Batch, Entry
from simserve.scheduler.sequence import Sequence
from simserve.scheduler.vllm.admission import EMPTY, MEMORY, OTHER, SEATS
from simserve.scheduler.vllm.queues import WaitingQueues
from simserve.scheduler.vllm.remote_chunks import Match
from simserve.scheduler.vllm.remote_loads import RemoteLoad, RemoteLoads

# What becomes of the next sequence in a queue, beside a number of tokens that it computes in this step.
_STOPS, _PASSED = 0, -1


class LoadingScheduler(RemoteLoads):
    """Admission with tiers."""

    def _schedule_or_load(self, batch: Batch, budget: int) -> None:
        queues = self.waiting
        assert isinstance(queues, WaitingQueues)
        passed = self._passed
        self._waits_for_other = False
        stop = EMPTY
        while queues:
            if budget <= 0:
                stop = OTHER
                break
            if len(self.running) >= self.config.max_num_seqs:
                stop = SEATS
                break
            queue = queues.next_queue()
            sequence = queue.head()
            tokens = self._consider(sequence, budget, batch)
            if tokens == _STOPS:
                stop = self.admission
                break
            queue.pop_head()
            if tokens == _PASSED:
                passed.append(sequence)
            else:
                budget -= tokens
        queues.skip(passed)
        passed.clear()
        # Whose chunks another loads may find more on the GPU before that has landed: nothing is promised.
        self.admission = OTHER if self._waits_for_other else stop

    def _consider(self, sequence: Sequence, budget: int, batch: Batch) -> int:
        """Admit the next sequence or begin its load; returns the tokens it computes or what becomes of it."""
        if not self._is_ready(sequence):
            return _PASSED
        if sequence.computed:
            return self._admit_loaded(sequence, budget, batch)
        tiers = self.tiers
        assert tiers is not None
        hits, hit_tokens = self._lookup_local(sequence)
        match = tiers.match(sequence, hit_tokens)
        if match is None:
            self._waits_for_other = True
            return _PASSED
        if match.chosen and tiers.is_async:
            return _PASSED if self._begin_load(sequence, hits, hit_tokens, match) else _STOPS
        return self._admit_matched(sequence, hits, hit_tokens, match, budget, batch)

    def _count_first(self, sequence: Sequence, computed: int, budget: int) -> int:
        """Return how many tokens a sequence computes first; 0 if chunks would have to be, and may not."""
        config = self.config
        want = sequence.known - computed
        if 0 < config.long_prefill_token_threshold < want:
            want = config.long_prefill_token_threshold
        if want > budget:
            if not config.enable_chunked_prefill:
                self.admission = OTHER
                return 0
            want = budget
        return want

    def _count_whole(self, sequence: Sequence) -> int:
        """Return the tokens for which there has to be room before a sequence is admitted."""
        config = self.config
        return min(sequence.known, config.max_model_len) if config.scheduler_reserve_full_isl else 0

    def _admit_matched(
        self, sequence: Sequence, hits: Any, hit_tokens: int, match: Match, budget: int, batch: Batch
    ) -> int:
        """Give a sequence a seat, and let the step load for it; returns its tokens of the step, or 0."""
        tiers = self.tiers
        assert tiers is not None
        want = self._count_first(sequence, match.tokens, budget)
        whole = self._count_whole(sequence)
        if not want:
            return _STOPS
        if not self.cache.admit(sequence, hits, hit_tokens, match.tokens + want, whole):
            self._block_on_memory(sequence, hits)
            return _STOPS
        self._awaited += tiers.load_before(sequence, match)
        self._seat(sequence, match.tokens, batch)
        batch.entries.append(Entry(sequence, want, match.tokens, 0))
        return want

    def _block_on_memory(self, sequence: Sequence, hits: Any) -> None:
        """Remember that the next sequence found no room.

        Only the gate on whole prompts makes that independent of how much of it is loaded, which may follow
        from how busy paths are.
        """
        self.admission = MEMORY if self.config.scheduler_reserve_full_isl else OTHER
        self.blocked_stream = self.cache.missed_stream(sequence, hits)

    # -- loads beside the steps ---------------------------------------------------------------------------

    def _begin_load(self, sequence: Sequence, hits: Any, hit_tokens: int, match: Match) -> bool:
        """Give a sequence the blocks that are loaded; False, and nothing has changed, if there is no room.

        A load cannot be preempted, so it leaves the blocks alone that prefills and loads under way still
        need (`_inflight_prefill_reserved_blocks`).
        """
        tiers = self.tiers
        assert tiers is not None
        room = max(self._count_whole(sequence), match.tokens + self._count_reserved() * self.cache.block_size)
        if not self.cache.admit(sequence, hits, hit_tokens, match.tokens, room, publish=False):
            self._block_on_memory(sequence, hits)
            return False
        sequence.computed = match.tokens
        landing = tiers.load_beside(sequence, match)
        self._loads[sequence.request.id] = RemoteLoad(sequence, landing.end_ns)
        return True

    def _admit_loaded(self, sequence: Sequence, budget: int, batch: Batch) -> int:
        """Give a sequence whose load has landed a seat; returns its tokens of the step, or 0."""
        config, cache = self.config, self.cache
        computed = sequence.computed
        want = self._count_first(sequence, computed, budget)
        if not want:
            return _STOPS
        size = cache.block_size
        missing = -(-self._count_whole(sequence) // size) - cache.capacity_tokens(sequence) // size
        tokens = min(computed + want + self._lookahead, config.max_model_len)
        if missing > self.pool.num_free or not cache.grow(sequence, computed, tokens):
            self.admission = MEMORY
            self.blocked_stream = None
            return _STOPS
        cache.publish(sequence, min(computed + want, sequence.known))
        self._seat(sequence, computed, batch)
        batch.entries.append(Entry(sequence, want, computed, 0))
        return want
