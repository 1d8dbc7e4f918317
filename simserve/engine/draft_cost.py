"""What proposing drafts costs in a step with speculative decoding."""

from __future__ import annotations

from simserve.cost.timer import Chunk, StepTimer
from simserve.scheduler.batch import Batch


class DraftCost:
    """The time that proposing drafts adds to a step.

    Args:
        timer: Prices one step of what proposes: the draft model, or EAGLE's one layer and LM head.
        num_speculative_tokens: Drafts a step, proposed one after the other.
    """

    def __init__(self, timer: StepTimer, num_speculative_tokens: int) -> None:
        self._timer = timer
        self._drafts = num_speculative_tokens

    def batch_ns(self, batch: Batch) -> int:
        """Return the time to propose drafts for the sequences that sample in a batch."""
        sampling = sum(entry.samples for entry in batch.entries)
        if not sampling:
            return 0
        context = sum(e.computed_before + e.tokens for e in batch.entries if e.samples)
        chunks = [Chunk(e.tokens, e.computed_before) for e in batch.entries]
        first = self._timer.batch_ns(0, 0, 0, chunks, sampling)
        return first + sum(self._timer.decode_ns(sampling, context, 0, self._drafts - 1))
