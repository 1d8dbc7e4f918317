"""The requests of one engine: who waits, who runs, in which KV cache; and what its kind says of itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from simserve.errors import InputError, IntegrityError, UnknownNameError
from simserve.kvcache.cache_plan import CachePlan
from simserve.scheduler.batch import Batch
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.kv_connector import KVConnector
from simserve.scheduler.orders.order import Order, OrderPlan
from simserve.scheduler.orders.queue import OrderedQueue
from simserve.scheduler.sequence import FINISHED, RUNNING, Sequence
from simserve.scheduler.waiting import FCFSQueue
from simserve.workload.request import Request


class RequestBook:
    """Adds and drops requests; the fields of a sequence are always those of the moment.

    Args:
        config: Options under vLLM's names.
        jump: Ignored: the engine alone decides whether it asks for stretches.
        options: Options of the kind's own, by name; see `option_defaults`.

    Attributes:
        running: Sequences with a seat, in order of admission.
        waiting: The queue of those without.
        sequences: All of them, by request id.
        preempted: Those that lost their seat in the last schedule(), in order.
        cache, pool: Who holds which KV blocks, and the blocks.
        steps: Steps scheduled so far.
        options: The kind's own options.
        order: Who of the waiting is next; None: by arrival.
        now_ns: When the step that is being decided starts.
    """

    # Options that `engine.options` may give a kind, with their defaults.
    option_defaults: ClassVar[Mapping[str, Any]] = {}
    # Keys of the scenario's `engine` that a kind does not read, and those that it knows in one value only.
    unused_keys: ClassVar[tuple[str, ...]] = ()
    fixed_keys: ClassVar[Mapping[str, Any]] = {"async_scheduling": False, "speculative": None}
    # Its own defaults of `max_num_seqs` and `max_num_batched_tokens`.
    default_limits: ClassVar[Mapping[str, int]] = {}
    # The KV cache keeps what a sliding window no longer reads.
    keeps_windows = False
    # Any order of requests works with it.
    takes_order = True
    # Any KV cache of blocks works with it, tiers behind the GPU too.
    takes_cache = True
    # What moves between the GPU and the tiers behind it; None without tiers.
    connector: KVConnector | None = None
    # Sequences that schedule() has ended itself, each with the reason: none.
    failed: ClassVar[tuple[tuple[Sequence, str], ...]] = ()

    def __init__(self, config: SchedulerConfig, *, jump: bool = True, **options: Any) -> None:
        self._check_options(options)
        self.config = config
        self.options = {**self.option_defaults, **options}
        self.running: list[Sequence] = []
        self.order = self._build_order()
        self.waiting: Any = self.build_queue()
        self.sequences: dict[int, Sequence] = {}
        self.preempted: list[Sequence] = []
        self.steps = 0
        self.now_ns = 0
        self.cache: Any = self.build_cache()
        self._prefetches = bool(getattr(self.cache, "prefetches", False))
        self.pool = self.cache.pool
        self._in_flight: deque[Batch] = deque()
        self._admissions = 0
        # Whether several batches are in flight, each with sequences of its own.
        self._is_pipelined = config.queue_depth > 1
        # Those in their seats whose bytes are under way from a tier.
        self._loading: list[Sequence] = []

    def _check_options(self, options: Mapping[str, Any]) -> None:
        """Refuse options that the kind does not have, and values that are no number where one is expected."""
        defaults = self.option_defaults
        for name, value in options.items():
            if name not in defaults:
                raise UnknownNameError(f"option of {type(self).__name__}", name, defaults)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if isinstance(defaults[name], float) and not (is_number and value >= 0):
                raise InputError(f"option {name}: expected a number of at least 0, got {value!r}")

    def _build_order(self) -> Order | None:
        plan = self.config.order
        if plan is None and self.config.policy == "priority":
            plan = OrderPlan("priority")
        return plan.build() if plan is not None else None

    def build_queue(self) -> Any:
        """Return the queue of those without a seat."""
        return FCFSQueue() if self.order is None else OrderedQueue(self.order)

    def build_cache(self) -> Any:
        """Return the KV cache; a policy may choose another one."""
        config = self.config
        plan = config.cache or CachePlan()
        return plan.build(
            config.num_gpu_blocks, config.block_size, enable_prefix_caching=config.enable_prefix_caching
        )

    # -- what the engine asks ------------------------------------------------------------------------------

    @property
    def has_unfinished(self) -> bool:
        """Whether any request waits or runs."""
        return bool(self.sequences)

    def add(self, request: Request, arrival_order: float, arrived_ns: int = 0) -> Sequence:
        """Queue a request."""
        sequence = Sequence(request, arrival_order, self.config.max_model_len)
        sequence.arrived_ns = arrived_ns
        self.cache.attach(sequence)
        if self._prefetches:
            self.cache.prefetch(sequence)
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
        self._forget(sequence)
        return sequence

    def ready(self) -> list[Sequence]:
        """Return the running sequences that no batch in flight and no load holds, in order of admission."""
        if self._is_pipelined or self._loading:
            return [sequence for sequence in self.running if not sequence.inflight]
        return self.running

    def _forget(self, sequence: Sequence) -> None:
        self.cache.release(sequence)
        if self.order is not None:
            self.order.ended(sequence)
        sequence.status = FINISHED
        sequence.key_spans = None
        del self.sequences[sequence.request.id]

    def cached_prefix_tokens(self, request: Request) -> int:
        """Return how many tokens of a prompt the cache holds now; changes nothing."""
        probe = Sequence(request, 0.0, self.config.max_model_len)
        self.cache.attach(probe)
        return int(self.cache.lookup(probe, probe.known)[1]) if probe.shared_limit else 0

    def idle(self) -> None:
        """Note that no request is left and nothing is in flight."""

    def list_parked(self) -> Iterable[Sequence]:
        """Return those of the waiting that keep their blocks; for a policy that lets some."""
        return ()

    def check_integrity(self) -> None:
        """Check that no block is lost or owned twice, and that everyone is in one place.

        Raises:
            IntegrityError: If that does not hold.
        """
        holders = [*self.running, *self.list_parked()]
        self.cache.check_integrity(holders)
        seated = {id(sequence) for sequence in self.running}
        holding = {id(sequence) for sequence in holders}
        for sequence in self.waiting:
            if id(sequence) in seated or sequence.status == RUNNING:
                raise IntegrityError(f"{sequence} waits with a seat")
            if (sequence.tracked or sequence.private) and id(sequence) not in holding:
                raise IntegrityError(f"{sequence} waits with blocks")
        if len(self.running) + len(self.waiting) != len(self.sequences):
            raise IntegrityError("a request is neither running nor waiting, or both")
