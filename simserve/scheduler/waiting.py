"""vLLM's waiting queues: a deque for FCFS, a heap for priorities."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator

from simserve.scheduler.sequence import Sequence


class FCFSQueue(deque[Sequence]):
    """First come, first served; a preempted sequence goes back to the front."""

    push = deque.append
    push_back = deque.appendleft
    pop_head = deque.popleft
    take = discard = deque.remove

    def head(self) -> Sequence:
        """Return the next sequence without removing it."""
        return self[0]


class PriorityQueue:
    """Smallest (priority, arrival, request id) first."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, float, int, Sequence]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def __iter__(self) -> Iterator[Sequence]:
        return (entry[3] for entry in sorted(self._heap, key=lambda entry: entry[:3]))

    def push(self, sequence: Sequence) -> None:
        """Add a sequence."""
        key = (sequence.request.priority, sequence.arrival_order, sequence.request.id, sequence)
        heapq.heappush(self._heap, key)

    push_back = push

    def head(self) -> Sequence:
        """Return the next sequence without removing it."""
        return self._heap[0][3]

    def pop_head(self) -> Sequence:
        """Remove and return the next sequence."""
        return heapq.heappop(self._heap)[3]

    def discard(self, sequence: Sequence) -> None:
        """Remove a sequence from anywhere in the queue."""
        self._heap = [entry for entry in self._heap if entry[3] is not sequence]
        heapq.heapify(self._heap)
