"""What a policy of the base does about the tiers behind its KV cache: who waits for which bytes, and how.

A blocking load holds up the step that admits its request, a layer-wise one the kernels of each layer; with
an asynchronous one the request alone waits, in its seat and with its blocks, while others go on.
"""

from __future__ import annotations

from typing import ClassVar

from simserve.errors import IntegrityError
from simserve.kvcache.cache_plan import Load
from simserve.kvcache.tier_moves import GPU
from simserve.scheduler.batch import Batch, Landing, Transfer
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.kv_connector import KVConnector
from simserve.scheduler.sequence import Sequence
from simserve.scheduler.step_content import StepContent


class Fetching(StepContent):
    """Lets steps or requests wait for what is fetched."""

    # How the kind can take in what is fetched. "async" is for kinds whose `decide` lets `prefills` run: those
    # whose bytes have landed are among them.
    loads: ClassVar[tuple[Load, ...]] = ("blocking", "layerwise")

    def __init__(self, config: SchedulerConfig, *, jump: bool = True, **options: object) -> None:
        super().__init__(config, jump=jump, **options)
        # What the next batch waits for.
        self._awaited: list[Transfer] = []
        self._load: Load = "blocking"
        plan = config.cache.tiers if config.cache is not None else None
        if plan is not None and self._has_tiers:
            self._load = plan.load
            self.connector = self.cache.traffic = KVConnector(plan)

    def wake_at(self, now_ns: int) -> int | None:
        """Return when what somebody waits for will have landed, or what is cached may expire."""
        due = super().wake_at(now_ns)
        if self.connector is None or self.preempted:  # who has lost a seat may get it back at once
            return due
        landing = self.connector.next_landing(now_ns)
        return landing if due is None else min(due, landing or due)

    def check_integrity(self) -> None:
        """Check requests, blocks, and that those who wait for bytes do so in their seats."""
        super().check_integrity()
        for sequence in self._loading:
            if sequence not in self.running or not sequence.inflight:
                raise IntegrityError(f"{sequence} waits for bytes without a seat, or runs meanwhile")

    # What the base calls where there are tiers.

    def _begin_decision(self, connector: KVConnector) -> None:
        """Let those be ready whose bytes have landed by now; begin what has been left to move since."""
        connector.begin_decision(self.now_ns)
        for sequence in [each for each in self._loading if not connector.is_loading(each.request.id)]:
            self._stop_loading(sequence, connector)
        self._begin_moves(connector)

    def _end_decision(self, connector: KVConnector) -> None:
        """Begin what is left to move."""
        self._begin_moves(connector)
        connector.end_decision()

    def _begin_moves(self, connector: KVConnector) -> Landing | None:
        """Begin what the cache has begun to move, so that estimates know of it.

        What is stored or prefetched only keeps its paths busy, from now on; what steps wait for goes with the
        batch, the rest now.

        Returns:
            When that has landed which a request is to wait for by itself; None for nothing.
        """
        if not self.cache.has_moves:
            return None
        moves = self.cache.take_moves()
        if self._load == "async":
            landing = connector.start(moves)
            return landing if any(move.target == GPU for move in moves) else None
        connector.start([move for move in moves if move.target != GPU])
        layers = connector.plan.layers if self._load == "layerwise" else 0
        self._awaited += connector.awaited([move for move in moves if move.target == GPU], layers)
        return None

    def _waits_for_load(self, sequence: Sequence, connector: KVConnector) -> bool:
        """Begin to fetch for a sequence that has just got its seat; whether it has to wait for it there."""
        landing = self._begin_moves(connector)
        if landing is None or landing.end_ns <= self.now_ns:
            return False
        connector.hold(sequence.request.id, landing)
        self._loading.append(sequence)
        sequence.inflight = 1
        return True

    def _stop_loading(self, sequence: Sequence, connector: KVConnector) -> None:
        self._loading.remove(sequence)
        connector.forget(sequence.request.id)
        sequence.inflight = 0

    def _forget(self, sequence: Sequence) -> None:
        if self.connector is not None and sequence in self._loading:
            self._stop_loading(sequence, self.connector)
        super()._forget(sequence)

    def _commit(self, batch: Batch) -> None:
        """Let the step wait for what is fetched for it."""
        super()._commit(batch)
        if self._awaited:
            batch.transfers, self._awaited = [*(batch.transfers or ()), *self._awaited], []
