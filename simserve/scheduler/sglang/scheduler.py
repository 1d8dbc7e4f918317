"""SGLang's scheduler: prefill first, else decode.

Rules of SGLang 0.5.23's decision logs (docs/background/sglang.md). One `schedule()` is one pass of its event
loop up to the launch of a batch, one `complete()` the processing of a result: of the same pass, or with
overlap (two batches in flight) of the one before.
"""

from __future__ import annotations

from typing import ClassVar

from simserve.kvcache.cache_plan import Load
from simserve.scheduler.batch import Batch
from simserve.scheduler.sequence import RUNNING
from simserve.scheduler.sglang.observation import Observation
from simserve.scheduler.sglang.options import OPTION_DEFAULTS
from simserve.scheduler.sglang.row import NOT_JOINED
from simserve.scheduler.sglang.stretch import DecodeStretch


class SglangScheduler(DecodeStretch):
    """SGLang: prefill before decode, radix cache, new-token ratio, retraction (Zheng et al., 2024).

    Its options stand in `options.OPTION_DEFAULTS`, under SGLang's names; vLLM's keys mean the same where they
    have a counterpart.
    """

    option_defaults: ClassVar = OPTION_DEFAULTS
    unused_keys: ClassVar = (
        "long_prefill_token_threshold",
        "scheduler_reserve_full_isl",
        "speculative",
        "decode_context_parallel_size",
        "cp_kv_cache_interleave_size",
    )
    # A prompt that is not cut may be longer than any budget.
    has_token_budget = False
    # Its pool of tokens keeps what a sliding window no longer reads.
    keeps_windows = False
    own_cache = "radix"
    # What the others say, HiCache does always: read ahead, and fetch whatever it finds.
    tier_keys = ("tiers", "chunk_tokens", "load")
    loads: ClassVar[tuple[Load, ...]] = ("layerwise", "blocking")
    # What the last schedule() did, when observing.
    observation: Observation | None = None

    def schedule(self, now_ns: int = 0) -> Batch | None:
        """Decide the next batch; None if nothing can run now.

        Raises:
            SimulationError: If memory runs out in a way that ends the real server.
        """
        self.preempted, self.failed, self.displaced = [], [], 0
        self.pool.evicted = 0
        self.expire(now_ns)
        self.pool.begin_pass(self.sequences, now_ns)
        if len(self._micro_batches) > 1:
            self._turn = (self._turn + 1) % len(self._micro_batches)
            self._enter(self._micro_batches[self._turn])
        self._merge_last()
        self._last = None
        self._has_deferred = self._defers_prefill()
        batch = None if self._has_deferred else self._form_prefill()
        if batch is None:
            batch = self._form_decode()
        if self._last is not None:
            self._deferrals = self.config.prefill_decode_interval
        self.pool.end_pass(batch)
        if self.observe:
            self.observation = Observation(self, batch)
        if batch is None:
            if not self._in_flight and not self.sequences:
                self.idle()
            return None
        self.steps += 1
        batch.running = len(self.running)
        batch.waiting = len(self.waiting)
        batch.used_blocks = self.pool.used_pages
        self._in_flight.append(batch)
        if len(self._micro_batches) > 1:
            self._flying.append(self._entered)
        return batch

    def expire(self, now_ns: int) -> None:
        """Drop cached prefixes that are too old."""
        self.pool.free += self.pool.tree.expire(now_ns)

    def idle(self) -> None:
        """Note that no request is left and nothing is in flight: the new-token ratio starts again."""
        self.ratio.reset()

    def wake_at(self, now_ns: int) -> int | None:
        """Return when a cached prefix may expire, while anything is in flight, or something lands."""
        finds_more = self._has_deferred or self.preempted or self.failed or self.pool.moves_something
        if finds_more and not self._in_flight:
            return None  # the next pass does something, whatever the time
        expiry = self.pool.tree.expires_at() if self._in_flight else None
        landing = self.pool.next_event(now_ns)
        return landing if expiry is None else expiry if landing is None else min(expiry, landing)

    # -- the running batch ----------------------------------------------------------------------------------

    def _merge_last(self) -> None:
        """Let the last prefill's requests join the running batch, and drop those that have ended."""
        chunked, last = self.chunked, self._last
        if chunked is not None and chunked.committed > chunked.prefix:
            self.pool.checkpoint(chunked, chunked.committed)
            chunked.prefix = chunked.committed
        if last is not None:
            outside = (chunked, last.chunked)
            rows = [row for row in last.rows if row.status == RUNNING and row not in outside]
            if len(rows) < len(last.rows):
                self.batch.full = False
            if rows:
                if self.batch.rows:
                    self.batch.rows += rows
                else:
                    last.rows = rows
                    self.batch = last
                self._number(rows)
                for row in rows:
                    if row.joined == NOT_JOINED:
                        self.decoders.join(row)
        self._drop_ended()

    def _defers_prefill(self) -> bool:
        """Whether this pass must decode, shortly after a prefill (`prefill_decode_interval`)."""
        if not self._deferrals:
            return False
        if len(self.batch.rows) < self.config.prefill_decode_interval_min_bs:
            self._deferrals = 0
            return False
        self._deferrals -= 1
        return True

    def check_integrity(self) -> None:
        """Check pool, tree and decoding rows: no token lost, none owned twice."""
        decoding: dict[int, int] = {}
        entered = self._entered
        entered.batch, entered.last = self.batch, self._last
        for micro_batch in self._micro_batches:
            # Those that decode beside a prefill stand in its batch.
            last = micro_batch.last.rows if micro_batch.last is not None else []
            rows = {row.id: row for row in (*micro_batch.batch.rows, *last) if row.status == RUNNING}
            seated = [row for row in rows.values() if row.joined != NOT_JOINED and not row.is_resting]
            micro_batch.decoders.check_integrity(seated)
            decoding |= {row.id: micro_batch.decoders.committed(row) for row in seated}
        held = [decoding.get(row.id, row.committed) for row in self.running]
        self.pool.check_integrity(self.running, held)
