"""Sarathi-Serve: prompts in chunks beside the decodes, so that no decode waits for a prompt.

Agrawal et al., "Taming Throughput-Latency Tradeoff in LLM Inference with Sarathi-Serve", OSDI 2024,
algorithm 3; what the paper leaves open is as in its code (`sarathi/core/scheduler/sarathi_scheduler.py`).
"""

from __future__ import annotations

from typing import ClassVar

from simserve.registry import register
from simserve.scheduler.base import BaseScheduler

# Share of the blocks that admission leaves free, so that decoders need not preempt soon after.
WATERMARK = 0.01


@register("engine", "sarathi")
class SarathiScheduler(BaseScheduler):
    """Chunked prefill under a token budget, decodes first: stall-free (Sarathi-Serve, OSDI 2024).

    A step takes all decodes, then the next chunks of prompts that are under way, then new prompts in order
    of arrival; `max_num_batched_tokens` is the chunk size of the paper. A prompt's blocks are all taken when
    it is admitted. When a decoder finds no block, the last of the running list is preempted and computed
    again.
    """

    unused_keys: ClassVar = (
        "enable_chunked_prefill",
        "long_prefill_token_threshold",
        "scheduler_reserve_full_isl",
    )
    loads: ClassVar = ("blocking", "layerwise", "async")
    # The smaller of the paper's two budgets (section 5.1): it bounds the time between tokens.
    default_limits: ClassVar = {"max_num_batched_tokens": 512}
    # Its block manager asks for a free block for each decoder, needed or not.
    decode_spare_blocks = 1

    def decide(self) -> None:
        """Decodes, then chunks under way, then new prompts, while the budget lasts."""
        self.decode()
        for sequence in self.prefills():
            self.run(sequence)
        spare = int(WATERMARK * (self.pool.num_blocks - 1))
        while len(self.waiting) and self.has_seat():
            head = self.waiting.head()
            if not self.admit(head, hold_tokens=head.known, spare_blocks=spare):
                break

    def decode_batch_stays(self) -> bool:
        """A decode batch stays as long as nobody can join it."""
        return self.nobody_can_join()
