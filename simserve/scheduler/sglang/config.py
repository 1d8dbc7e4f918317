"""Options of the SGLang scheduler, under SGLang's own names and with its defaults (0.5.23)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from simserve.errors import InputError, UnknownNameError
from simserve.kvcache.cache_plan import TierPlan
from simserve.scheduler.config import KVGroup

CACHE_AWARE_POLICIES = ("lpm", "dfs-weight", "hrrn", "shortest-prefill-first")
SCHEDULE_POLICIES = (*CACHE_AWARE_POLICIES, "fcfs", "lof", "random", "routing-key")
RETRACTION_POLICIES = ("length", "priority")
PREFETCH_POLICIES = ("best_effort", "wait_complete", "timeout")


@dataclass(frozen=True, slots=True)
class SglangConfig:
    """What one engine's scheduler is told.

    Attributes:
        pool_tokens: Tokens whose KV fits into the pool; whole pages of it are used.
        context_len: Longest prompt plus output, in tokens.
        max_running_requests: Rows: requests that hold KV at once.
        max_prefill_tokens: Prompt tokens of one prefill batch, where prompts are not chunked.
        chunked_prefill_size: Prompt tokens of one prefill batch, prompts being cut; None: prompts stay whole.
        enable_mixed_chunk: Let the running requests decode in the same batch as a prefill.
        disable_overlap_schedule: Decide a batch only when the results of the one before are known.
        schedule_conservativeness: Scales the share of a request's future tokens that admission reserves.
        prefill_max_requests: Requests of one prefill batch at most.
        retraction_policy: Who is retracted first when memory runs out: `length` or `priority`.
        prefill_decode_interval, prefill_decode_interval_min_bs: After a prefill batch, so many passes
            without one, while at least so many requests run.
        in_batch_check_threshold, in_batch_deprioritize_threshold: A waiting request of which at most so many
            tokens are cached, and which shares at least so many with one ahead of it, waits for that one; a
            negative first value switches this off.
        waiting_prefix_refresh: Keep the cached prefixes of waiting requests from growing old.
        eos_stream: Stream whose first token ends every request that ends by EOS; None: the last token of
            the request's own output stream stands for it.
        random_seed: Of the policy `random`.
        radix_eviction_options: Options of the eviction policy, by name.
        hicache_storage_prefetch_policy: How long a request waits for what is read for it from behind the
            host's memory.
        tiers: Memory behind the device's; None: there is none.
        pipeline_parallel_size: Stages; as many batches are in flight, without overlap.
        attention_window: Tokens that the layer with the shortest window reads; None: all layers read all.
    """

    pool_tokens: int
    context_len: int
    page_size: int = 1
    max_running_requests: int = 256
    max_prefill_tokens: int = 16384
    chunked_prefill_size: int | None = None
    enable_mixed_chunk: bool = False
    schedule_policy: str = "fcfs"
    disable_radix_cache: bool = False
    radix_eviction_policy: str = "lru"
    radix_eviction_options: Mapping[str, Any] = field(default_factory=dict)
    hicache_storage_prefetch_policy: str = "timeout"
    tiers: TierPlan | None = None
    disable_overlap_schedule: bool = False
    schedule_conservativeness: float = 1.0
    prefill_max_requests: int | None = None
    enable_priority_scheduling: bool = False
    disable_priority_preemption: bool = False
    schedule_low_priority_values_first: bool = False
    priority_scheduling_preemption_threshold: int = 10
    retraction_policy: str = "length"
    prefill_decode_interval: int = 0
    prefill_decode_interval_min_bs: int = 0
    in_batch_check_threshold: int = 32
    in_batch_deprioritize_threshold: int = 32
    waiting_prefix_refresh: bool = True
    eos_stream: int | None = None
    random_seed: int = 0
    pipeline_parallel_size: int = 1
    attention_window: int | None = None

    def __post_init__(self) -> None:
        for name in ("pool_tokens", "page_size", "max_running_requests", "max_prefill_tokens"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("chunked_prefill_size", "prefill_max_requests"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1 or null, not {value}")
        if self.pool_tokens < self.page_size:
            raise InputError(f"pool_tokens {self.pool_tokens} holds no page of {self.page_size} tokens")
        if self.schedule_policy not in SCHEDULE_POLICIES:
            valid = ", ".join(SCHEDULE_POLICIES)
            raise InputError(f"schedule_policy {self.schedule_policy!r} is unknown; valid: {valid}")
        if self.hicache_storage_prefetch_policy not in PREFETCH_POLICIES:
            raise UnknownNameError(
                "hicache_storage_prefetch_policy", self.hicache_storage_prefetch_policy, PREFETCH_POLICIES
            )
        if self.retraction_policy not in RETRACTION_POLICIES:
            raise InputError(f"retraction_policy is length or priority, not {self.retraction_policy!r}")
        if self.disable_radix_cache and self.schedule_policy == "shortest-prefill-first":
            raise InputError(
                "schedule_policy shortest-prefill-first needs the radix cache; leave disable_radix_cache "
                "false, or take another policy"
            )

    @property
    def queue_depth(self) -> int:
        """Batches in flight at most."""
        if self.pipeline_parallel_size > 1:
            return self.pipeline_parallel_size
        return 1 if self.disable_overlap_schedule else 2

    @property
    def async_scheduling(self) -> bool:
        """Whether a sequence is scheduled again before its last output is known."""
        return not self.disable_overlap_schedule and self.pipeline_parallel_size == 1

    @property
    def micro_batch_size(self) -> int:
        """Requests of one of the pipeline's batches."""
        return max(1, self.max_running_requests // self.pipeline_parallel_size)

    @property
    def is_mixed(self) -> bool:
        """Whether prefill batches carry the running requests' decodes (only with chunked prefill)."""
        return self.enable_mixed_chunk and self.chunked_prefill_size is not None

    @property
    def preempts(self) -> bool:
        """Whether a waiting request of higher priority may take the row of a running one."""
        return self.enable_priority_scheduling and not self.disable_priority_preemption

    # What the engine and its figures ask of every kind, under vLLM's names.

    @property
    def num_gpu_blocks(self) -> int:
        """Pages, and the one that pads batches."""
        return self.pool_tokens // self.page_size + 1

    @property
    def block_size(self) -> int:
        """Tokens of a page."""
        return self.page_size

    @property
    def max_num_seqs(self) -> int:
        """Requests that hold KV at once."""
        return self.max_running_requests

    @property
    def max_num_batched_tokens(self) -> int:
        """Prompt tokens of one batch."""
        return self.chunked_prefill_size or self.max_prefill_tokens

    @property
    def max_model_len(self) -> int:
        """Longest prompt plus output that is accepted."""
        return min(self.context_len, self.pool_tokens)

    @property
    def kv_groups(self) -> tuple[KVGroup, ...]:
        """All layers keep all tokens."""
        return (KVGroup(),)
