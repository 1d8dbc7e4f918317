"""Loads beside the steps, from when a request has got blocks for one until it takes over what has landed.

vLLM's side of a KV connector (vllm/v1/core/sched/scheduler.py, 0.19 and later: WAITING_FOR_REMOTE_KVS,
`_update_waiting_for_remote_kv`): such a request has no seat and cannot be preempted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from simserve.kvcache.cache_plan import Load
from simserve.kvcache.run import NO_HITS
from simserve.kvcache.tier import TierCounts
from simserve.scheduler.batch import Batch, Transfer
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.kv_connector import KVConnector
from simserve.scheduler.sequence import FINISHED, RUNNING, Sequence
from simserve.scheduler.vllm.admission import AdmissionScheduler
from simserve.scheduler.vllm.queues import WaitingQueues
from simserve.workload.request import Request


class RemoteLoad:
    """A load beside the steps.

    Attributes:
        sequence: Whose; it may have ended meanwhile, and keeps its blocks until the load has landed.
        end_ns: When it lands.
        has_landed: Whether a decision has seen that.
    """

    __slots__ = ("end_ns", "has_landed", "sequence")

    def __init__(self, sequence: Sequence, end_ns: int) -> None:
        self.sequence = sequence
        self.end_ns = end_ns
        self.has_landed = False


class RemoteLoads(AdmissionScheduler):
    """Who is being loaded, and what the tiers are told; without tiers it costs a look at `tiers`."""

    # What it reads of `kv_cache`, and how it can take in what tiers have: beside the steps, as vLLM's own
    # OffloadingConnector, or before a step (whole, or layer by layer), as LMCache's connector.
    tier_keys: ClassVar[tuple[str, ...]] = ("tiers", "chunk_tokens", "prefetch", "fetch", "load")
    loads: ClassVar[tuple[Load, ...]] = ("async", "blocking", "layerwise")

    def __init__(self, config: SchedulerConfig, *, observe: bool = False) -> None:
        super().__init__(config, observe=observe)
        speculative = config.speculative
        self._lookahead = speculative.lookahead_tokens if speculative else 0
        # By request id, in the order in which they began; until the request has taken over what landed.
        self._loads: dict[int, RemoteLoad] = {}
        # Of the step that is being decided: what it waits for, whom it has passed over so far, and whether
        # one of them waits for what another loads.
        self._awaited: list[Transfer] = []
        self._passed: list[Sequence] = []
        self._waits_for_other = False

    @property
    def connector(self) -> KVConnector | None:
        """What times the moves of the tiers, for the engine; None without tiers."""
        return None if self.tiers is None else self.tiers.connector

    @property
    def tier_counts(self) -> Mapping[str, TierCounts] | None:
        """What each tier was asked and has moved, by its name; None without tiers."""
        return None if self.tiers is None else self.tiers.counts

    def wake_at(self, now_ns: int) -> int | None:
        """Return when the next load lands, None if none is under way."""
        if not self._loads:
            return None
        return min([load.end_ns for load in self._loads.values() if not load.has_landed], default=None)

    # -- around a decision --------------------------------------------------------------------------------

    def _begin_decision(self, now_ns: int) -> None:
        """Note what has landed by now: vLLM hears of it with the outputs of a step."""
        tiers = self.tiers
        assert tiers is not None
        tiers.connector.begin_decision(now_ns)
        for request_id, load in list(self._loads.items()):
            if load.end_ns > now_ns or load.has_landed:
                continue
            load.has_landed = True
            sequence = load.sequence
            tiers.note_landed(sequence)
            if sequence.status == FINISHED:
                del self._loads[request_id]
                self.cache.release(sequence)
                tiers.forget(sequence)

    def _end_decision(self, batch: Batch | None) -> None:
        """Store the chunks that the step computes of prompts, beside it, and let it wait for its loads."""
        tiers = self.tiers
        assert tiers is not None
        if batch is not None:
            for entry in batch.entries:
                sequence = entry.sequence
                if not sequence.decoding or sequence.join_step == batch.step:
                    tiers.store(sequence, min(sequence.computed, sequence.known))
            if self._awaited:
                batch.transfers = self._awaited
                self._awaited = []
        tiers.start_stores()
        tiers.connector.end_decision()

    def _is_ready(self, sequence: Sequence) -> bool:
        """Whether a waiting sequence waits for no load; what has landed for it is published now."""
        load = self._loads.get(sequence.request.id)
        if load is None:
            return True
        if not load.has_landed:
            return False
        del self._loads[sequence.request.id]
        self.cache.publish(sequence, sequence.computed)
        if sequence.computed == sequence.known:
            sequence.computed -= 1  # it takes a token to sample the next
        return True

    def _count_reserved(self) -> int:
        """Return how many blocks the prefills and loads under way still need for what is known of them."""
        size = self.cache.block_size
        missing = 0
        for sequence in [*self.running, *self._list_holders()]:
            if not sequence.decoding:
                tokens = min(sequence.known, self.config.max_model_len)
                missing += max(0, -(-tokens // size) - self.cache.capacity_tokens(sequence) // size)
        return missing

    def _lookup_local(self, sequence: Sequence) -> tuple[Any, int]:
        return self._lookup(sequence) if sequence.shared_limit else (NO_HITS, 0)

    # -- requests come and end ----------------------------------------------------------------------------

    def _prefetch(self, sequence: Sequence) -> None:
        """Begin to prefetch for a request that has just come, if that is asked for."""
        tiers = self.tiers
        assert tiers is not None
        if tiers.prefetches and sequence.request.shared_tokens:
            tiers.prefetch(sequence, self._lookup_local(sequence)[1])

    def _leave_tiers(self, sequence: Sequence) -> bool:
        """Store what a request leaves, its outputs too; True if it keeps its blocks until its load lands."""
        tiers = self.tiers
        assert tiers is not None
        if sequence.status == RUNNING:
            is_over = sequence.outputs >= sequence.limit
            computed = sequence.known - 1 if is_over else min(sequence.computed, sequence.known)
            tiers.store(sequence, computed)
        load = self._loads.get(sequence.request.id)
        if load is not None and not load.has_landed:
            return True
        self._loads.pop(sequence.request.id, None)
        tiers.forget(sequence)
        return False

    # -- what routers, logs and checks ask for --------------------------------------------------------------

    def cached_prefix_tokens(self, request: Request) -> int:
        """Return how many tokens of a prompt need not be computed now; changes nothing."""
        tokens = super().cached_prefix_tokens(request)
        if self.tiers is None or not request.shared_tokens:
            return tokens
        probe = Sequence(request, 0.0, self.config.max_model_len)
        match = self.tiers.match(probe, tokens)
        if request.id not in self.sequences:
            self.tiers.forget(probe)
        return tokens if match is None else min(match.tokens, request.prompt_tokens - 1)

    def _list_holders(self) -> list[Sequence]:
        """Return those without a seat that hold blocks for what is or was loaded, ended ones aside."""
        queues = self.waiting
        if not isinstance(queues, WaitingQueues):
            return []
        return [sequence for sequence in (*self._passed, *queues.skipped) if sequence.computed]

    def check_integrity(self) -> None:
        """Check pool, tables and tiers. Raises IntegrityError."""
        super().check_integrity()
        if self.tiers is not None:
            self.tiers.check_integrity()

    def _list_tables(self) -> list[Sequence]:
        """Return all who hold blocks, ended ones too whose load is under way."""
        ended = [load.sequence for load in self._loads.values() if load.sequence.status == FINISHED]
        return [*self.running, *self._list_holders(), *ended]
