"""The requests of one vLLM engine: who runs, who waits, what they hold in the KV cache."""

from __future__ import annotations

from collections import deque
from typing import Any, ClassVar

from simserve.kvcache.block_pool import BlockPool
from simserve.kvcache.grouped import GroupedCache
from simserve.kvcache.paged import PagedCache
from simserve.kvcache.pool import KVPool
from simserve.kvcache.run_pool import RunPool
from simserve.scheduler.batch import Batch
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.sequence import FINISHED, PREEMPTED, RUNNING, WAITING, Sequence
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
        steps: Steps scheduled so far.
    """

    # Sequences that schedule() has ended itself, each with the reason: none.
    failed: ClassVar[tuple[tuple[Sequence, str], ...]] = ()

    def __init__(self, config: SchedulerConfig, *, observe: bool = False) -> None:
        self.config = config
        self.observe = observe
        self.running: list[Sequence] = []
        self.waiting: FCFSQueue | PriorityQueue = FCFSQueue() if config.policy == "fcfs" else PriorityQueue()
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

    def idle(self) -> None:
        """Do nothing when no request is left."""

    def _end(self, sequence: Sequence) -> None:
        self.cache.release(sequence)
        sequence.status = FINISHED
        sequence.keys = []
        sequence.key_spans = None
        del self.sequences[sequence.request.id]

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
        return int(self.cache.count_cached(self.running))

    def check_integrity(self) -> None:
        """Check pool and tables: no block lost, none owned twice, references add up."""
        self.cache.check_integrity(self.running)
        for sequence in self.waiting:
            assert sequence.status in (WAITING, PREEMPTED), sequence
            assert not sequence.tracked, sequence


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
