"""vLLM's first scheduler: whole prompts before decodes, preemption by recompute or by swapping.

Kwon et al., "Efficient Memory Management for Large Language Model Serving with PagedAttention", SOSP 2023;
the details are those of `vllm/core/scheduler.py` of vLLM 0.6 (V0) without chunked prefill, for requests of
one sequence each. The engine that the paper measured still ran prompts beside decodes
(`cacheflow/core/scheduler.py` at commit 075ed4e); that ended with pull request 658 of August 2023.
"""

from __future__ import annotations

from typing import Any, ClassVar

from simserve.errors import InputError
from simserve.registry import register
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.sequence import Sequence
from simserve.scheduler.swapping import SwappingScheduler

# Share of the blocks that admission leaves free (`BlockSpaceManager`, watermark).
WATERMARK = 0.01
_GIB = 2**30


@register("engine", "vllm-v0")
class VllmV0Scheduler(SwappingScheduler):
    """Prefill first, a watermark, preemption by recompute or by swapping to the host (vLLM, SOSP 2023).

    A step is either whole prompts, as many as the budget holds, or the decodes. While a swapped sequence
    waits nobody is admitted. Where the host has no room for a victim the real engine stops; here the victim
    is computed again.

    Options: `preemption_mode`, recompute or swap; `swap_space`, GiB of host memory for each GPU;
    `mix_prompts`, whole prompts run beside the decodes, as in the engine that the paper measured.
    """

    option_defaults: ClassVar = {"preemption_mode": "recompute", "swap_space": 4.0, "mix_prompts": False}
    unused_keys: ClassVar = ("long_prefill_token_threshold", "scheduler_reserve_full_isl")
    fixed_keys: ClassVar = {**SwappingScheduler.fixed_keys, "enable_chunked_prefill": False}
    loads: ClassVar = ("blocking", "layerwise", "async")
    # `can_append_slots` wants a free block for each decoder, needed or not.
    decode_spare_blocks = 1

    def __init__(self, config: SchedulerConfig, *, jump: bool = True, **options: Any) -> None:
        super().__init__(config, jump=jump, **options)
        mode = self.options["preemption_mode"]
        if mode not in ("recompute", "swap"):
            raise InputError(f"preemption_mode is recompute or swap, not {mode!r}")
        self._mixes = self.options["mix_prompts"]
        if not isinstance(self._mixes, bool):
            raise InputError(f"mix_prompts is true or false, not {self._mixes!r}")
        self._swaps = mode == "swap"
        if self._swaps and not self.host_blocks:
            raise InputError(
                f"preemption_mode swap needs host memory, and swap_space {self.options['swap_space']:g} GiB "
                "holds no KV block; expected a larger swap_space, or preemption_mode recompute"
            )
        self._watermark = int(WATERMARK * (self.pool.num_blocks - 1))

    def count_host_blocks(self) -> int:
        """Return how many blocks `swap_space` holds."""
        return int(self.options["swap_space"] * _GIB) // max(1, self.config.block_bytes)

    def decide(self) -> None:
        """Whole prompts if any can be admitted; else decodes, and back from the host who fits.

        With `mix_prompts` decodes come first, and prompts take what these leave of the budget.
        """
        swapped = self.waiting.swapped
        if not self._mixes:
            self.run_prompts()
            if not swapped:
                self._admit_prompts()
            if self._batch.entries:
                return
        self.decode()
        while swapped and not self.preempted and self.budget > 0 and self.has_seat():
            head = swapped[0]
            if not self.swap_in(head, self._watermark):
                break
            self.run(head)
        if self._mixes:
            self.run_prompts()
            if not swapped and not self.preempted:
                self._admit_prompts()

    def _admit_prompts(self) -> None:
        while len(self.waiting) and not self.waiting.swapped:
            head = self.waiting.head()  # one who loses its seat for it goes to the host, and waits before it
            if not self.has_seat():
                break
            if not self.admit(head, whole=True, hold_tokens=head.known, spare_blocks=self._watermark):
                break

    def preempt(self, sequence: Sequence) -> None:
        """Swap a sequence out, or drop its blocks for it to be computed again."""
        if not (self._swaps and self.swap_out(sequence)):
            super().preempt(sequence)

    def decode_batch_stays(self) -> bool:
        """A decode batch stays as long as nobody can join it."""
        return self.nobody_can_join()
