"""Sequences that keep their blocks without a seat, and those blocks on their way to the host and back."""

from __future__ import annotations

from typing import Any

from simserve.kvcache.run import NO_HITS
from simserve.scheduler.batch import FROM_HOST, Transfer
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.sequence import Sequence
from simserve.scheduler.swapping import SwappingScheduler


class ParkingScheduler(SwappingScheduler):
    """Parks sequences: who loses his seat keeps his blocks until they are needed."""

    def __init__(self, config: SchedulerConfig, *, jump: bool = True, **options: Any) -> None:
        # Sequences that keep their blocks without a seat, by request id.
        self._parked: dict[int, Sequence] = {}
        # Of those the ones whose blocks may still be on their way from the host.
        self._coming: set[int] = set()
        super().__init__(config, jump=jump, **options)

    def _park(self, sequence: Sequence) -> None:
        """Take a sequence's seat and leave it its blocks."""
        self._unseat(sequence)
        self._parked[sequence.request.id] = sequence
        self.waiting.push(sequence)

    def _unpark(self, sequence: Sequence) -> None:
        """Give one that has computed something its seat again, once its blocks are there."""
        request_id = sequence.request.id
        if request_id in self._moved:
            self._fetch(sequence)
        elif request_id in self._coming:
            self._transfers.append(Transfer(FROM_HOST, 0, 0))  # waits for what is on its way
        self._coming.discard(request_id)
        del self._parked[request_id]
        self._resume(sequence)

    def _offload(self, sequence: Sequence, *, awaited: bool = True) -> None:
        """Take a parked sequence's blocks: they move to the host, or are computed again if it is full."""
        del self._parked[sequence.request.id]
        self._coming.discard(sequence.request.id)
        if self._count_blocks(sequence.computed) <= self.host_free:
            self._send_to_host(sequence, awaited=awaited)
        else:
            self.cache.evict_all(sequence)
            sequence.computed = 0
            sequence.decoding = False

    def _fetch(self, sequence: Sequence, *, awaited: bool = True) -> None:
        """Bring a sequence's blocks back from the host; it has no seat yet."""
        computed = sequence.computed
        self.cache.admit(sequence, NO_HITS, 0, computed, computed)
        self._transfer(FROM_HOST, self._return_blocks(sequence), awaited=awaited)
        self._parked[sequence.request.id] = sequence

    def list_swapped(self) -> list[Sequence]:
        """Return those of the waiting whose blocks are in host memory."""
        return [each for each in self.waiting if each.request.id in self._moved]

    def list_parked(self) -> list[Sequence]:
        """Return those of the waiting that keep their blocks."""
        return list(self._parked.values())

    def _forget(self, sequence: Sequence) -> None:
        request_id = sequence.request.id
        self._parked.pop(request_id, None)
        self._coming.discard(request_id)
        super()._forget(sequence)
