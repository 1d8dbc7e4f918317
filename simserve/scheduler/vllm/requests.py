"""The requests of one vLLM engine: who runs, who waits, what they hold in the KV cache."""

from __future__ import annotations

from collections import deque
from typing import Any, ClassVar

from simserve.errors import InputError
from simserve.kvcache.block_pool import BlockPool
from simserve.kvcache.grouped import GroupedCache
from simserve.kvcache.paged import PagedCache
from simserve.kvcache.pool import KVPool
from simserve.kvcache.run_pool import RunPool
from simserve.scheduler.batch import Batch
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.sequence import FINISHED, PREEMPTED, RUNNING, WAITING, Sequence
from simserve.scheduler.vllm.queues import WaitingQueues, make_queue
from simserve.scheduler.vllm.remote_chunks import RemoteChunks
from simserve.scheduler.waiting import FCFSQueue, PriorityQueue
from simserve.workload.request import Request


class RequestTable:
    """Adds and drops requests; the schedulers above it decide about them.

    Args:
        config: Options.
        observe: Track every block by id, so that decision logs can show it (slower).

    Attributes:
        running: Sequences with a seat, in order of admission.
        waiting: The queue of those without.
        sequences: All of them, by request id.
        pool, cache: The KV blocks, and who holds them.
        tiers: What lies in the tiers behind them; None without any.
        steps: Steps scheduled so far.
    """

    # Sequences that schedule() has ended itself, each with the reason: none.
    failed: ClassVar[tuple[tuple[Sequence, str], ...]] = ()

    def __init__(self, config: SchedulerConfig, *, observe: bool = False) -> None:
        self.config = config
        self.observe = observe
        self.running: list[Sequence] = []
        self.tiers = _build_tiers(config)
        self.waiting: FCFSQueue | PriorityQueue | WaitingQueues
        self.waiting = make_queue(config.policy) if self.tiers is None else WaitingQueues(config.policy)
        self.sequences: dict[int, Sequence] = {}
        self.steps = 0
        # Batches scheduled and not completed, oldest first.
        self._in_flight: deque[Batch] = deque()
        self.cache: Any = _build_cache(config, observe)
        self.pool: KVPool = self.cache.pool

    @property
    def has_unfinished(self) -> bool:
        """Whether any request waits or runs."""
        return bool(self.sequences)

    def add(self, request: Request, arrival_order: float, arrived_ns: int = 0) -> Sequence:
        """Queue a request. `arrival_order` is vLLM's arrival_time: the tie-break between equal priorities."""
        sequence = Sequence(request, arrival_order, self.config.max_model_len)
        self.cache.attach(sequence)
        self.sequences[request.id] = sequence
        self.waiting.push(sequence)
        if self.tiers is not None:
            self._prefetch(sequence)
        return sequence

    def abort(self, request_id: int) -> Sequence | None:
        """Drop a request and free its blocks at once; what is in flight for it is ignored later."""
        sequence = self.sequences.get(request_id)
        if sequence is None:
            return None
        if sequence.status == RUNNING:
            self.running.remove(sequence)
        else:
            self.waiting.discard(sequence)
        self._end(sequence)
        return sequence

    def wake_at(self, now_ns: int) -> int | None:
        """Return None: no decision of vLLM's depends on time."""
        return None

    def expire(self, now_ns: int) -> None:
        """Do nothing: vLLM's blocks have no age."""

    def idle(self) -> None:
        """Do nothing when no request is left."""

    def _end(self, sequence: Sequence) -> None:
        if self.tiers is None or not self._leave_tiers(sequence):
            self.cache.release(sequence)
        sequence.status = FINISHED
        sequence.keys = []
        sequence.key_spans = None
        del self.sequences[sequence.request.id]

    def _prefetch(self, sequence: Sequence) -> None:
        """Begin to prefetch for a request that has just come; see `RemoteLoads`."""
        raise NotImplementedError

    def _leave_tiers(self, sequence: Sequence) -> bool:
        """Store what a request leaves; whether it keeps its blocks for now. See `RemoteLoads`."""
        raise NotImplementedError

    # -- what routers, logs and checks ask for ----------------------------------------------------------

    def cached_prefix_tokens(self, request: Request) -> int:
        """Return how many tokens of a prompt the cache holds now; changes nothing."""
        probe = Sequence(request, 0.0, self.config.max_model_len)
        self.cache.attach(probe)
        return int(self._lookup(probe)[1]) if probe.shared_limit else 0

    def _lookup(self, sequence: Sequence) -> tuple[Any, int]:
        """Return the hits of a sequence, and how many tokens they hold."""
        found: tuple[Any, int] = self.cache.lookup(sequence, sequence.known)
        return found

    def common_prefix_blocks(self) -> int | list[int]:
        """Return vLLM's num_common_prefix_blocks: leading blocks that all running sequences share."""
        if not self.running:
            return 0 if len(self.config.kv_groups) == 1 else [0] * len(self.config.kv_groups)
        result: int | list[int] = self.cache.common_prefix_blocks(self.running[0], len(self.running))
        return result

    @property
    def num_cached(self) -> int:
        """Distinct hashes in the prefix cache."""
        return int(self.cache.count_cached(self._list_tables()))

    def _list_tables(self) -> list[Sequence]:
        """Return all who hold blocks."""
        return self.running

    def check_integrity(self) -> None:
        """Check pool and tables: no block lost, none owned twice, references add up."""
        self.cache.check_integrity(self._list_tables())
        for sequence in self.waiting:
            assert sequence.status in (WAITING, PREEMPTED), sequence
            # Only what is loaded for it gives one without a seat blocks.
            assert self.tiers is not None or not sequence.computed, sequence
            assert sequence.computed or not sequence.tracked, sequence


def _build_tiers(config: SchedulerConfig) -> RemoteChunks | None:
    plan = config.cache.tiers if config.cache is not None else None
    if plan is None:
        return None
    if [group.window for group in config.kv_groups] != [None]:
        raise InputError(
            "kv_cache.tiers of kind 'vllm' keep whole prefixes, and this model's KV cache has groups of "
            "sliding-window layers; expected disable_hybrid_kv_cache_manager: true, or no tiers"
        )
    return RemoteChunks(plan, config.block_size, shares_gpu=config.enable_prefix_caching)


def _build_cache(config: SchedulerConfig, observe: bool) -> PagedCache | GroupedCache:
    eagle = config.speculative is not None and config.speculative.method == "eagle"
    windows = [group.window for group in config.kv_groups]
    if windows == [None] and not observe:
        return PagedCache(
            RunPool(config.num_gpu_blocks, config.block_size),
            enable_prefix_caching=config.enable_prefix_caching,
            drop_last_hit=eagle,
        )
    return GroupedCache(
        BlockPool(config.num_gpu_blocks, observe=observe),
        config.block_size,
        windows,
        enable_prefix_caching=config.enable_prefix_caching,
        drop_last_hit=eagle,
    )
