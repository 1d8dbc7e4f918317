"""Preemption by swapping: a victim's KV blocks move to host memory and come back before it goes on.

Kwon et al., "Efficient Memory Management for Large Language Model Serving with PagedAttention", SOSP 2023,
section 4.5: all blocks of a sequence move together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from simserve.errors import IntegrityError
from simserve.kvcache.run import NO_HITS
from simserve.scheduler.base import BaseScheduler
from simserve.scheduler.batch import FROM_HOST, TO_HOST, Batch, Transfer
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.decode_stretch import MEMORY
from simserve.scheduler.sequence import Sequence


class SwapQueue:
    """The queue of those without a seat: those in host memory, first in first out, then the others.

    Args:
        rest: The queue of the others.

    Attributes:
        swapped: Those in host memory.
    """

    def __init__(self, rest: Any) -> None:
        self.swapped: deque[Sequence] = deque()
        self._rest = rest
        self.push = rest.push
        self.push_back = rest.push_back

    def __len__(self) -> int:
        return len(self.swapped) + len(self._rest)

    def __iter__(self) -> Iterator[Sequence]:
        yield from self.swapped
        yield from self._rest

    def head(self) -> Sequence:
        """Return the next sequence without removing it."""
        head: Sequence = self.swapped[0] if self.swapped else self._rest.head()
        return head

    def pop_head(self) -> Sequence:
        """Remove and return the next sequence."""
        head: Sequence = self.swapped.popleft() if self.swapped else self._rest.pop_head()
        return head

    def take(self, sequence: Sequence) -> None:
        """Remove a sequence that gets a seat, wherever it is."""
        if sequence in self.swapped:
            self.swapped.remove(sequence)
        else:
            self._rest.take(sequence)

    def discard(self, sequence: Sequence) -> None:
        """Remove a cancelled sequence from anywhere in the queue."""
        if sequence in self.swapped:
            self.swapped.remove(sequence)
        else:
            self._rest.discard(sequence)


class SwappingScheduler(BaseScheduler):
    """A base for policies that move sequences to the host.

    Attributes:
        host_blocks, host_free: Blocks that host memory holds, and how many of them are free.
    """

    def __init__(self, config: SchedulerConfig, *, jump: bool = True, **options: Any) -> None:
        super().__init__(config, jump=jump, **options)
        self.host_blocks = self.host_free = self.count_host_blocks()
        # Blocks in host memory by request id.
        self._moved: dict[int, int] = {}
        # Not yet part of a batch.
        self._transfers: list[Transfer] = []

    def count_host_blocks(self) -> int:
        """Return how many blocks host memory holds. To be overridden."""
        raise NotImplementedError

    def build_queue(self) -> SwapQueue:
        """Return the queue of those without a seat; those in host memory come first."""
        return SwapQueue(super().build_queue())

    def list_swapped(self) -> Iterable[Sequence]:
        """Return those of the waiting whose blocks are in host memory."""
        swapped: Iterable[Sequence] = self.waiting.swapped
        return swapped

    def swap_out(self, sequence: Sequence) -> bool:
        """Move a running sequence to the host; False, and nothing has changed, if there is no room."""
        blocks = self._count_blocks(sequence.computed)
        if blocks > self.host_free:
            return False
        self._drop_from_batch(sequence)
        self._unseat(sequence)
        self._send_to_host(sequence)
        self.waiting.swapped.append(sequence)
        return True

    def _send_to_host(self, sequence: Sequence, *, awaited: bool = True) -> None:
        """Move the blocks of a sequence without a seat; there must be room."""
        blocks = self._count_blocks(sequence.computed)
        self.cache.release(sequence)
        self.host_free -= blocks
        self._moved[sequence.request.id] = blocks
        self._transfer(TO_HOST, blocks, awaited=awaited)

    def swap_in(self, sequence: Sequence, spare_blocks: int = 0) -> bool:
        """Bring a sequence back if its blocks, one more and `spare_blocks` are free; it keeps what it has."""
        computed = sequence.computed
        room = (self._moved[sequence.request.id] + 1 + spare_blocks) * self.cache.block_size
        if not self.cache.admit(sequence, NO_HITS, 0, computed, room):
            self.admission = MEMORY
            self.note_shortage()
            self.blocked_stream = None
            return False
        self._resume(sequence)
        self._transfer(FROM_HOST, self._return_blocks(sequence))
        return True

    def _resume(self, sequence: Sequence) -> None:
        """Give a seat to a sequence that goes on with the blocks it holds."""
        computed = sequence.computed
        self._seat(sequence, computed)
        if sequence.decoding:
            sequence.join_step = self.steps - 1
            sequence.join_tokens = computed

    def check_integrity(self) -> None:
        """Check blocks and places, those of the host too."""
        super().check_integrity()
        swapped = [sequence.request.id for sequence in self.list_swapped()]
        if sorted(swapped) != sorted(self._moved):
            raise IntegrityError("the blocks in host memory are not those of the swapped sequences")
        if sum(self._moved.values()) + self.host_free != self.host_blocks:
            raise IntegrityError("blocks of host memory are lost, or owned twice")

    def _commit(self, batch: Batch) -> None:
        super()._commit(batch)
        if self._transfers:
            batch.transfers, self._transfers = [*(batch.transfers or ()), *self._transfers], []

    def _forget(self, sequence: Sequence) -> None:
        if sequence.request.id in self._moved:
            self._return_blocks(sequence)
        super()._forget(sequence)

    def _return_blocks(self, sequence: Sequence) -> int:
        blocks = self._moved.pop(sequence.request.id)
        self.host_free += blocks
        return blocks

    def _count_blocks(self, tokens: int) -> int:
        size: int = self.cache.block_size
        return -(-tokens // size)

    def _transfer(self, path: int, blocks: int, *, awaited: bool = True) -> None:
        config = self.config
        size_bytes, copies = blocks * config.block_bytes, blocks * config.block_copies
        self._transfers.append(Transfer(path, size_bytes, copies, awaited))
