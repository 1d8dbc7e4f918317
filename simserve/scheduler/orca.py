"""Orca: requests join and leave the batch between any two iterations; memory is reserved at admission.

Yu et al., "Orca: A Distributed Serving System for Transformer-Based Generative Models", OSDI 2022,
algorithm 1. The variants of what is reserved are those with which the vLLM paper compares itself (Kwon et
al., SOSP 2023, section 6.1).
"""

from __future__ import annotations

from typing import ClassVar

from simserve.kvcache.contiguous import ContiguousCache
from simserve.registry import register
from simserve.scheduler.unbudgeted import UnbudgetedScheduler


@register("engine", "orca")
class OrcaScheduler(UnbudgetedScheduler):
    """Iteration-level batching, first come first served, KV memory reserved at admission (Orca, OSDI 2022).

    Whole prompts run in the same iteration as the decodes (selective batching). A request is admitted if its
    reservation fits, so nobody is ever preempted, but for `reserve: grow`.

    Options: `reserve`, how much a request reserves: max (the longest there can be), max_tokens (its own, as
    in algorithm 1), pow2, oracle, or grow; `allocator`, which hole it comes from: first_fit, best_fit, buddy.
    """

    option_defaults: ClassVar = {"reserve": "max", "allocator": "first_fit"}
    takes_cache = False
    own_cache = "contiguous"

    def build_cache(self) -> ContiguousCache:
        """Return one memory without sharing, a region for each request."""
        config = self.config
        return ContiguousCache(
            config.num_gpu_blocks,
            config.block_size,
            allocator=self.options["allocator"],
            reserve=self.options["reserve"],
            max_model_len=config.max_model_len,
        )

    def decide(self) -> None:
        """Let everybody decode, and admit whom memory and seats are there for, in order of arrival."""
        self.decode()
        while len(self.waiting) and self.has_seat():
            if not self.admit(self.waiting.head()):
                break

    def decode_batch_stays(self) -> bool:
        """A decode batch stays as long as nobody can join it."""
        return self.nobody_can_join()
