"""What goes into the step that is being decided, counted as it is chosen; and the step's record."""

from __future__ import annotations

from simserve.cost.timer import Chunk
from simserve.scheduler.batch import ON_DEVICE, Batch, Entry, Transfer
from simserve.scheduler.decode_stretch import DecodeStretch
from simserve.scheduler.sequence import Sequence


class StepContent(DecodeStretch):
    """Counts tokens as computed when they are chosen, and writes the batch.

    Attributes:
        budget: Tokens that the step being decided may still take.
    """

    budget = 0

    def _take_decoders(self, decoders: list[Sequence]) -> None:
        """Count a token of each as computed, and publish the blocks that are full with it."""
        size = self.cache.block_size
        for sequence in decoders:
            sequence.computed = computed = sequence.computed + 1
            if not computed % size and sequence.shared_limit:
                self.cache.publish(sequence, computed)
        self._batch.decoders += decoders
        self.budget -= len(decoders)
        if self._is_pipelined:
            for sequence in decoders:
                sequence.inflight = 1

    def _take_chunk(self, sequence: Sequence, tokens: int) -> None:
        """Count tokens of a prompt as computed."""
        self._batch.entries.append(Entry(sequence, tokens, sequence.computed, 0))
        sequence.computed += tokens
        self.cache.publish(sequence, sequence.computed)
        self.budget -= tokens
        if self._is_pipelined:
            sequence.inflight = 1

    def _drop_from_batch(self, sequence: Sequence) -> None:
        """Undo what this step has given to a sequence that loses its seat after all."""
        batch = self._batch
        if sequence in batch.decoders:
            batch.decoders.remove(sequence)
            sequence.computed -= 1
            self.budget += 1
        for entry in [entry for entry in batch.entries if entry.sequence is sequence]:
            batch.entries.remove(entry)
            sequence.computed -= entry.tokens
            self.budget += entry.tokens
        sequence.inflight = 0

    def is_empty(self, batch: Batch) -> bool:
        """Whether nothing runs in a step."""
        return not batch.decoders and not batch.entries

    def _commit(self, batch: Batch) -> None:
        """Write what the step holds into its record, and who samples in it."""
        self.steps += 1
        for entry in batch.entries:
            sequence = entry.sequence
            if sequence.computed == sequence.known:
                entry.samples = sequence.decoding = True
                sequence.join_step = batch.step
                sequence.join_tokens = sequence.computed
        self.measure(batch)
        batch.running = len(self.running)
        batch.waiting = len(self.waiting)
        batch.used_blocks = self.pool.num_blocks - 1 - self.pool.num_free
        if self._samples_cache:
            self.cache.sample(batch.step, self.running)
            self._move_in_memory(batch)

    def measure(self, batch: Batch) -> None:
        """Write the shape of a step, which its time follows from, into its record."""
        decoders = batch.decoders
        batch.decodes = batch.samples = len(decoders)
        batch.context_tokens = sum([sequence.computed for sequence in decoders])
        window = self.config.attention_window
        if window:
            batch.window_tokens = sum([min(sequence.computed, window) for sequence in decoders])
        if batch.entries:
            batch.chunks = [Chunk(entry.tokens, entry.computed_before) for entry in batch.entries]
            batch.prefill_tokens = sum([entry.tokens for entry in batch.entries])
            batch.samples += sum([entry.samples for entry in batch.entries])

    def _move_in_memory(self, batch: Batch) -> None:
        """Let the step wait until tokens whose region has moved are copied."""
        moved = self.cache.take_moved_tokens()
        if moved:
            size_bytes = moved * self.config.block_bytes // self.config.block_size
            batch.transfers = [*(batch.transfers or ()), Transfer(ON_DEVICE, size_bytes)]
