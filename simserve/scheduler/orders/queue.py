"""The waiting queue of an order: a heap where keys stay, heaps by group where they change."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterator
from typing import Any

from simserve.scheduler.orders.order import Order
from simserve.scheduler.sequence import Sequence

# (key, place) of a sequence; places differ, so that sequences are never compared.
_Entry = tuple[Any, tuple[Any, ...], Sequence]


class OrderedQueue:
    """Requests without a seat, in an order; tells the order who comes and goes.

    Args:
        order: The order. If it is static, a key is asked for once, when its sequence enters; if dynamic, that
            of the first of each group whenever the head is asked for.

    Attributes:
        order: The order.
    """

    def __init__(self, order: Order) -> None:
        self.order = order
        self._length = 0
        # A static order has one group, whose entries hold keys; those of a dynamic one's group are equal.
        self._heaps: dict[Hashable, list[_Entry]] = {}

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Sequence]:
        """Yield them in the order in which they would be served if nothing changed."""
        order = self.order
        waiting = [entry[2] for heap in self._heaps.values() for entry in heap]
        return iter(sorted(waiting, key=lambda each: (order.key(each), order.place(each))))

    def push(self, sequence: Sequence) -> None:
        """Add a new sequence."""
        self.order.arrived(sequence)
        self._enter(sequence)

    def push_back(self, sequence: Sequence) -> None:
        """Add a sequence that was preempted."""
        self.order.returned(sequence)
        self._enter(sequence)

    def head(self) -> Sequence:
        """Return the next sequence without removing it."""
        return self._heaps[self._next_group()][0][2]

    def pop_head(self) -> Sequence:
        """Remove and return the next sequence, which gets a seat."""
        group = self._next_group()
        heap = self._heaps[group]
        sequence = heapq.heappop(heap)[2]
        if not heap:
            del self._heaps[group]
        self._length -= 1
        self.order.admitted(sequence)
        return sequence

    def take(self, sequence: Sequence) -> None:
        """Remove a sequence that gets a seat, wherever it is in the queue."""
        self._remove(sequence)
        self.order.admitted(sequence)

    def discard(self, sequence: Sequence) -> None:
        """Remove a cancelled sequence from anywhere in the queue."""
        self._remove(sequence)
        self.order.withdrawn(sequence)

    def _remove(self, sequence: Sequence) -> None:
        group, _ = self._find_place(sequence)
        heap = [entry for entry in self._heaps[group] if entry[2] is not sequence]
        if heap:
            heapq.heapify(heap)
            self._heaps[group] = heap
        else:
            del self._heaps[group]
        self._length -= 1

    def _enter(self, sequence: Sequence) -> None:
        group, key = self._find_place(sequence)
        heap = self._heaps.setdefault(group, [])
        heapq.heappush(heap, (key, self.order.place(sequence), sequence))
        self._length += 1

    def _find_place(self, sequence: Sequence) -> tuple[Hashable, Any]:
        """Return the group of a sequence, and its key in that group's heap."""
        if self.order.dynamic:
            return self.order.group(sequence), None
        return None, self.order.key(sequence)

    def _next_group(self) -> Hashable:
        if not self.order.dynamic:
            return None
        heaps, order = self._heaps, self.order
        return min(heaps, key=lambda group: (order.key(heaps[group][0][2]), heaps[group][0][1]))
