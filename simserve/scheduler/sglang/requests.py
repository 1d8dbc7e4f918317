"""The requests of one SGLang engine: who waits, who has a row, what they hold of the KV pool."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from simserve.kvcache.tier import TierCounts
from simserve.scheduler.batch import Batch
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.kv_connector import KVConnector
from simserve.scheduler.sequence import FINISHED, PREEMPTED, RUNNING, WAITING
from simserve.scheduler.sglang.config import SglangConfig
from simserve.scheduler.sglang.memory import TokenPool
from simserve.scheduler.sglang.options import build_config
from simserve.scheduler.sglang.order import QueueOrder
from simserve.scheduler.sglang.ratio import RETRACT_DECODE_STEPS, NewTokenRatio
from simserve.scheduler.sglang.row import NOT_JOINED, Row
from simserve.scheduler.sglang.row_batch import MicroBatch, RowBatch
from simserve.scheduler.sglang.tiered_memory import TieredPool
from simserve.workload.request import Request


class WaitingList(list[Row]):
    """The queue, in the order in which the last pass sorted it."""

    def head(self) -> Row:
        """Return the next one."""
        return self[0]


class RequestTable:
    """Adds and drops requests; the passes above it decide about them.

    Args:
        config: Options, or the plan that is common to all kinds, which `options` complete.
        observe: Note what decision logs hold (slower).
        jump: Offer `horizon`; False goes pass by pass, with equal results.
        options: SGLang's options by name, see `options`.

    Attributes:
        waiting: Requests without a row.
        running: Requests with one, in order of admission.
        sequences: All of them, by request id.
        batch: The running batch: those of them that decode (in a pipeline: in this micro-batch).
        chunked: The one whose prompt is being computed in chunks.
        pool, order, ratio, decoders: Memory, queue order, new-token ratio, decoding rows as one.
        steps: Batches scheduled so far.
        preempted: Requests that the last schedule() took the row of, in order.
        displaced: How many of them, the first ones, a request of higher priority has taken the row of; the
            others were retracted.
        failed: Requests that it ended, and why.
        processed_tokens: Prefill tokens processed so far, as `hrrn` counts them.
    """

    def __init__(
        self,
        config: SglangConfig | SchedulerConfig,
        *,
        observe: bool = False,
        jump: bool = True,
        **options: Any,
    ) -> None:
        if isinstance(config, SchedulerConfig):
            config = build_config(config, options)
        elif options:
            config = replace(config, **options)
        self.config = config
        self.observe = observe
        self._can_jump = jump
        has_tiers = config.tiers is not None and not config.disable_radix_cache
        self.pool = TieredPool(config) if has_tiers else TokenPool(config)
        self.order = QueueOrder(config, self.pool)
        self.ratio = NewTokenRatio(config.schedule_conservativeness)
        self.waiting = WaitingList()
        self.running: list[Row] = []
        self.sequences: dict[int, Row] = {}
        self.chunked: Row | None = None
        self.steps = 0
        self.preempted: list[Row] = []
        self.displaced = 0
        self.failed: list[tuple[Row, str]] = []
        self.processed_tokens = 0
        # Batches scheduled and not completed, oldest first.
        self._in_flight: deque[Batch] = deque()
        # A pipeline's stages take turns with as many running batches; the one whose turn it is stands in
        # `batch`, `decoders` and `_last`.
        self._micro_batches = [MicroBatch(config.page_size) for _ in range(config.pipeline_parallel_size)]
        self._flying: deque[MicroBatch] = deque()
        self._turn = -1
        self._entered = entered = self._micro_batches[0]
        self.batch, self.decoders = entered.batch, entered.decoders
        self._last: RowBatch | None = None
        # Whether a row of the running batch has ended and is still listed there.
        self._has_ended = False
        # Passes that must still decode before the next prefill.
        self._deferrals = 0
        self._has_deferred = False
        self._stamps = self._orders = 0

    @property
    def connector(self) -> KVConnector | None:
        """What times the moves between tiers; None without."""
        return self.pool.connector

    @property
    def tier_counts(self) -> Mapping[str, TierCounts] | None:
        """What each tier was asked and has moved; None without."""
        return self.pool.tier_counts

    @property
    def has_unfinished(self) -> bool:
        """Whether any request waits or runs."""
        return bool(self.sequences)

    # -- in and out -----------------------------------------------------------------------------------------

    def add(self, request: Request, arrival_order: float, arrived_ns: int = 0) -> Row:
        """Queue a request; what it may generate is cut to what context and pool can hold."""
        config, pool = self.config, self.pool
        prompt = request.prompt_tokens
        max_new = min(request.max_tokens, min(config.context_len, pool.size) - prompt - 2)
        max_new = max(0, min(max_new, pool.size - pool.whole_pages(prompt) - pool.page_size - 1))
        row = Row(request, arrival_order, max_new, config.eos_stream)
        row.arrived_ns = arrived_ns
        row.node = pool.tree.root
        self.sequences[request.id] = row
        self._enqueue(row, WAITING)
        return row

    def abort(self, request_id: int) -> Row | None:
        """Drop a request and free its memory at once; what is in flight for it is ignored later."""
        row = self.sequences.get(request_id)
        if row is None:
            return None
        if row.status == RUNNING:
            if row is self.chunked:
                self.chunked = None
            self._unseat(row)
            self.pool.release(row, row.committed, publish=False)
        else:
            self.waiting.remove(row)
        self._forget(row)
        return row

    def _enqueue(self, row: Row, status: int) -> None:
        """Put a request at the end of the queue."""
        row.status = status
        self._stamps += 1
        row.stamp = self._stamps
        row.counted_at_entry = self.processed_tokens
        self.waiting.append(row)
        self.pool.await_turn(row)

    def _seat(self, row: Row) -> None:
        """Give an admitted request a row."""
        row.take_seat(self.steps, row.prefix)
        self.running.append(row)

    def _unseat(self, row: Row) -> None:
        """Take a request's row; it is no longer scheduled."""
        if row.joined != NOT_JOINED:
            row.group.leave(row)
        row.inflight = 0
        self.running.remove(row)
        self._has_ended = True

    def _retract(self, row: Row, remaining: int) -> None:
        """Free a decoding request's memory without keeping any of it; `remaining` rows go on.

        It is not in the queue afterwards: `_enqueue` puts it there.
        """
        self._unseat(row)
        row.computed = row.committed
        row.close_tenure(self.steps - 1, max(0, row.known - row.join_tokens - 1))
        assert row.spans is not None
        row.spans.append(("preempted", self.steps, self.steps, 0))
        row.computed = 0
        row.decoding = False
        row.preemptions += 1
        row.status = PREEMPTED
        self.pool.release(row, row.committed, publish=False)
        self.pool.make_room(remaining * RETRACT_DECODE_STEPS)
        self.preempted.append(row)

    def _forget(self, row: Row) -> None:
        row.status = FINISHED
        self.pool.forget(row)
        row.key = []
        del self.sequences[row.request.id]

    # -- the batches ----------------------------------------------------------------------------------------

    @property
    def last_rows(self) -> list[Row]:
        """The requests of the prefill batch that the last schedule() decided; none if it did not."""
        return self._last.rows if self._last is not None else []

    def _enter(self, micro_batch: MicroBatch) -> None:
        """Take up a micro-batch of the pipeline where it was left."""
        left = self._entered
        if micro_batch is not left:
            left.batch, left.last = self.batch, self._last
            self._entered = micro_batch
            self.batch, self.decoders = micro_batch.batch, micro_batch.decoders
            self._last = micro_batch.last

    def _drop_ended(self) -> None:
        """Take rows that have ended out of the running batch; then others may join."""
        if self._has_ended or len(self._micro_batches) > 1:
            self._has_ended = False
            running = self.batch
            rows = [row for row in running.rows if row.status == RUNNING]
            if len(rows) < len(running.rows):
                running.rows = rows
                running.full = False

    def _number(self, rows: list[Row]) -> None:
        """Note the order of rows in the running batch."""
        for row in rows:
            self._orders += 1
            row.order = self._orders

    # -- what routers ask for -------------------------------------------------------------------------------

    def cached_prefix_tokens(self, request: Request) -> int:
        """Return how many tokens of a prompt the cache holds now; changes nothing."""
        row = Row(request, 0.0, request.max_tokens, self.config.eos_stream)
        return self.pool.tree.peek(row.key, request.prompt_tokens - 1)
