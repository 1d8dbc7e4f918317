"""The two queues of requests without a seat, where some of them may be passed over."""

from __future__ import annotations

from collections.abc import Iterator

from simserve.scheduler.sequence import Sequence
from simserve.scheduler.waiting import FCFSQueue, PriorityQueue


class WaitingQueues:
    """Those who wait their turn, and those who were passed over: their KV entries are being loaded.

    vLLM's `waiting` and `skipped_waiting` (vllm/v1/core/sched/scheduler.py, 0.19): by arrival those passed
    over come first, by priority the better of the two heads.

    Args:
        policy: "fcfs" or "priority".

    Attributes:
        fresh, skipped: The two queues.
    """

    def __init__(self, policy: str) -> None:
        self._by_priority = policy == "priority"
        self.fresh = make_queue(policy)
        self.skipped = make_queue(policy)

    def __len__(self) -> int:
        return len(self.fresh) + len(self.skipped)

    def __iter__(self) -> Iterator[Sequence]:
        everyone = [*self.skipped, *self.fresh]
        if self._by_priority:
            everyone.sort(key=_rank)
        return iter(everyone)

    def push(self, sequence: Sequence) -> None:
        """Add a sequence that has just come."""
        self.fresh.push(sequence)

    def push_back(self, sequence: Sequence) -> None:
        """Add one that has lost its seat."""
        self.fresh.push_back(sequence)

    def next_queue(self) -> FCFSQueue | PriorityQueue:
        """Return the queue whose head is next; somebody must be in one."""
        if not self.skipped:
            return self.fresh
        if self._by_priority and self.fresh and _rank(self.fresh.head()) < _rank(self.skipped.head()):
            return self.fresh
        return self.skipped

    def head(self) -> Sequence:
        """Return the next sequence without removing it."""
        return self.next_queue().head()

    def pop_head(self) -> Sequence:
        """Remove and return the next sequence."""
        return self.next_queue().pop_head()

    def discard(self, sequence: Sequence) -> None:
        """Remove a sequence from whichever queue it is in."""
        if any(each is sequence for each in self.skipped):
            self.skipped.discard(sequence)
        else:
            self.fresh.discard(sequence)

    def skip(self, passed: list[Sequence]) -> None:
        """Put those whom a step has passed over before the others who were, in the order of passing."""
        for sequence in reversed(passed):
            self.skipped.push_back(sequence)


def make_queue(policy: str) -> FCFSQueue | PriorityQueue:
    """Return an empty queue for vLLM's `scheduling_policy`."""
    return FCFSQueue() if policy == "fcfs" else PriorityQueue()


def _rank(sequence: Sequence) -> tuple[int, float, int]:
    return (sequence.request.priority, sequence.arrival_order, sequence.request.id)
