"""Options of the vLLM scheduler, under vLLM's own names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simserve.errors import InputError

if TYPE_CHECKING:
    from simserve.kvcache.cache_plan import CachePlan
    from simserve.scheduler.orders.order import OrderPlan

# (request id, how many verification steps it has had, drafts in this step) -> accepted drafts
Acceptance = Callable[[int, int, int], int]


@dataclass(frozen=True, slots=True)
class KVGroup:
    """Layers that share a block table: full attention, or a sliding window of `window` tokens."""

    window: int | None = None


@dataclass(frozen=True, slots=True)
class Speculation:
    """Speculative decoding.

    Attributes:
        method: "ngram", "eagle" or "draft_model".
        num_speculative_tokens: Drafts per step and request.
        accept: How many drafts a verification step accepts (an input: the simulator has no tokens).
    """

    method: str
    num_speculative_tokens: int
    accept: Acceptance

    @property
    def lookahead_tokens(self) -> int:
        """KV slots reserved for drafts that the draft model writes itself (none for ngram)."""
        return 0 if self.method == "ngram" else self.num_speculative_tokens


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """What one engine's scheduler is told. `num_gpu_blocks` includes vLLM's null block.

    Attributes:
        attention_window: Tokens that attention reads at most in the layer that reads least, where KV groups
            do not say it: engines without windows in their KV cache keep everything and read less.
        block_bytes, block_copies: Bytes of a block on one rank, and into how many pieces of memory they are
            cut (one for the keys and one for the values of each layer), for swapping.
        cache: What the KV cache is made of, in the kinds that take any; None: blocks, found by hashes.
        prefill_profile: Lengths of prompts and how long each takes alone (tokens, seconds), rising, for kinds
            that ask for it.
        order: Who of the waiting is next, in the kinds of `base`; None: by arrival, or as `policy` says.
    """

    num_gpu_blocks: int
    block_size: int = 16
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    max_model_len: int = 8192
    enable_prefix_caching: bool = True
    enable_chunked_prefill: bool = True
    policy: str = "fcfs"
    long_prefill_token_threshold: int = 0
    scheduler_reserve_full_isl: bool = True
    async_scheduling: bool = False
    pipeline_parallel_size: int = 1
    speculative: Speculation | None = None
    kv_groups: tuple[KVGroup, ...] = (KVGroup(),)
    attention_window: int | None = None
    block_bytes: int = 0
    block_copies: int = 1
    cache: CachePlan | None = None
    order: OrderPlan | None = None
    prefill_profile: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        if self.policy not in ("fcfs", "priority"):
            raise InputError(f"scheduling_policy is fcfs or priority, not {self.policy!r}")
        for name in ("num_gpu_blocks", "block_size", "max_num_seqs", "max_num_batched_tokens"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")

    @property
    def queue_depth(self) -> int:
        """Batches in flight at most: the pipeline's stages, or 2 with asynchronous scheduling."""
        if self.pipeline_parallel_size > 1:
            return self.pipeline_parallel_size
        return 2 if self.async_scheduling else 1
