"""The shape of every policy: `decide()` says who runs in the next step, the base does all the counting.

A policy extends `BaseScheduler`, looks at `running` and `waiting`, and calls the verbs below: `decode`,
`run`, `admit`, `preempt`. Each mutates the step that is being decided; none of them looks at a clock.
"""

from __future__ import annotations

from typing import Any

from simserve.scheduler.batch import Batch
from simserve.scheduler.decode_stretch import BUDGET, EMPTY, MEMORY, OTHER, SEATS
from simserve.scheduler.fetching import Fetching
from simserve.scheduler.sequence import RUNNING, Sequence


class BaseScheduler(Fetching):
    """Continuous batching over a paged KV cache; a policy overrides `decide`."""

    def decide(self) -> None:
        """Choose what runs in the next step. To be overridden.

        Raises:
            NotImplementedError: If a policy does not say.
        """
        raise NotImplementedError(f"{type(self).__name__} has no decide()")

    def schedule(self, now_ns: int = 0) -> Batch | None:
        """Decide the next step; None if nothing can run now."""
        self.now_ns = now_ns
        self.expire(now_ns)
        if self.order is not None:
            self.order.now_ns = now_ns
        self.preempted = []
        self.admission = EMPTY
        self._batch = batch = Batch(self.steps)
        batch.entries, batch.decoders = [], []
        self.budget = self.config.max_num_batched_tokens if self.has_token_budget else 1 << 60
        if self.connector is not None:
            self._begin_decision(self.connector)
        self.decide()
        if self.admission == EMPTY and len(self.waiting):
            self.admission = OTHER
        is_empty = self.is_empty(batch)
        if not is_empty:
            self._commit(batch)
            self._in_flight.append(batch)
        if self.connector is not None:
            self._end_decision(self.connector)
        return None if is_empty else batch

    # -- who can run ---------------------------------------------------------------------------------------

    def prefills(self) -> list[Sequence]:
        """Return those of `ready` whose prompt is not computed yet."""
        return [sequence for sequence in self.ready() if not sequence.decoding]

    def has_seat(self) -> bool:
        """Whether another sequence may be admitted (`max_num_seqs`).

        With a preemptive order somebody may lose his seat to the head of the queue.
        """
        if len(self.running) < self.config.max_num_seqs or self._displace():
            return True
        self.admission = SEATS
        return False

    def _displace(self) -> bool:
        """Preempt the running sequence whose place the head of the queue may take; False if nobody's."""
        if self.order is None or not self.order.preemptive or not len(self.waiting):
            return False
        victim = self.order.displaced_by(self.waiting.head(), self.ready())
        if victim is not None:
            self.preempt(victim)
        return victim is not None

    # -- verbs ---------------------------------------------------------------------------------------------

    def decode(self) -> None:
        """Let every decoding sequence take a token; who finds no block for it takes that of a victim.

        A victim (`choose_victim`) loses its seat to an earlier one in the running list.
        """
        ready = self.ready()
        decoders = [sequence for sequence in ready if sequence.decoding]
        if len(decoders) > self.budget:
            del decoders[self.budget :]
        size = self.cache.block_size
        takers = [sequence for sequence in decoders if not sequence.computed % size]
        if len(takers) + self.decode_spare_blocks > self.pool.num_free:
            self._decode_one_by_one(decoders)
            return
        cache = self.cache
        for sequence in takers:
            computed = sequence.computed
            if not cache.grow(sequence, computed, computed + 1):
                self._decode_one_by_one(decoders)
                return
        self._take_decoders(decoders)

    def run(self, sequence: Sequence, most_tokens: int = 1 << 60) -> bool:
        """Let a running sequence compute its next tokens in this step, as many as the budget lets it.

        Args:
            sequence: One of `ready`.
            most_tokens: At most so many.

        Returns:
            False, and nothing has changed, if there is no KV block for them, or nothing to compute.
        """
        computed = sequence.computed
        tokens = min(sequence.known - computed, most_tokens, self.budget)
        if tokens <= 0:
            return False
        if not self.cache.grow(sequence, computed, computed + tokens):
            self.note_shortage()
            return False
        if sequence.decoding:
            self._take_decoders([sequence])
        else:
            self._take_chunk(sequence, tokens)
        return True

    def run_prompts(self) -> None:
        """Let prompts run whole whose first tokens have landed, those that the budget holds.

        For policies that compute prompts whole: others let all `prefills` run.
        """
        for sequence in self.prefills():
            if sequence.known - sequence.computed > self.budget or not self.run(sequence):
                break

    def admit(
        self,
        sequence: Sequence,
        most_tokens: int = 1 << 60,
        *,
        whole: bool = False,
        hold_tokens: int = 0,
        spare_blocks: int = 0,
    ) -> bool:
        """Give a waiting sequence a seat, what the prefix cache holds of its tokens, and its first chunk.

        With asynchronous loads it waits in its seat for what is fetched, and has its first chunk later.

        Args:
            sequence: One of `waiting`.
            most_tokens: At most so many tokens in this step; the budget bounds them too.
            whole: Only if that is all that the cache does not hold.
            hold_tokens: Take blocks for so many tokens now (at least for those of this step).
            spare_blocks: Only if so many are left free.

        Returns:
            False, and nothing has changed, if the budget is spent or blocks are missing.
        """
        cache = self.cache
        if self.connector is not None:
            self._begin_moves(self.connector)
        hits, hit_tokens = cache.lookup(sequence, sequence.known)
        tokens = min(sequence.known - hit_tokens, most_tokens, self.budget)
        if tokens <= 0 or (whole and hit_tokens + tokens < sequence.known):
            self.admission = BUDGET
            return False
        held = max(hit_tokens + tokens, hold_tokens)
        room = held + spare_blocks * cache.block_size
        while not cache.admit(sequence, hits, hit_tokens, hit_tokens + tokens, room):
            if sequence is not self.waiting.head() or not self._displace():
                self._block_on_memory(sequence, hits)
                return False
            hits, hit_tokens = cache.lookup(sequence, sequence.known)
        if held > hit_tokens + tokens:
            cache.grow(sequence, hit_tokens + tokens, held)
        self._seat(sequence, hit_tokens)
        if self.connector is None or not self._waits_for_load(sequence, self.connector):
            self._take_chunk(sequence, tokens)
        return True

    def _block_on_memory(self, sequence: Sequence, hits: Any) -> None:
        """Note that nobody is admitted for want of blocks, and what could change that."""
        self.admission = MEMORY
        self.note_shortage()
        self.blocked_stream = self.cache.missed_stream(sequence, hits)

    def choose_victim(self, sequence: Sequence) -> Sequence:
        """Return who gives up its blocks so that `sequence` can decode.

        By default the last in the order of the queue, without one the last admitted.
        """
        if self.order is not None:
            return self.order.victim(self.ready())
        return next(each for each in reversed(self.running) if not each.inflight)

    def preempt(self, sequence: Sequence) -> None:
        """Take a sequence's seat and blocks; it waits first in the queue, to be computed again."""
        self._drop_from_batch(sequence)
        self._unseat(sequence)
        self.cache.evict_all(sequence)
        sequence.computed = 0
        sequence.decoding = False
        self.waiting.push_back(sequence)

    def _append(self, sequence: Sequence) -> bool:
        """Take the block that a decoder needs for its next token, if any; False if there is none."""
        if self.pool.num_free < self.decode_spare_blocks:
            return False
        return bool(self.cache.grow(sequence, sequence.computed, sequence.computed + 1))

    def _decode_one_by_one(self, decoders: list[Sequence]) -> None:
        for sequence in decoders:
            while sequence.status == RUNNING:
                if self._append(sequence):
                    self._take_decoders([sequence])
                    break
                self.note_shortage()
                self.preempt(self.choose_victim(sequence))
