"""The queues of the skip-join multi-level feedback queue: who waits, by level and by when he came to it."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping

from simserve.scheduler.sequence import Sequence

# What a queue is sorted by: when a request came to the level (ns), its arrival, its id.
Place = tuple[int, float, int]
# (prompt tokens, seconds)
Profile = tuple[tuple[int, float], ...]


class Job:
    """What the scheduler keeps of a request.

    Attributes:
        level: Its queue, 0 the highest.
        joined_ns: When it came to that level; 0 puts it first.
        served_ns: How long it has run on that level.
        since_ns: Of a running one: up to when its service is counted; else since when it waits.
    """

    __slots__ = ("joined_ns", "level", "served_ns", "since_ns")

    def __init__(self, level: int, now_ns: int) -> None:
        self.level = level
        self.joined_ns = now_ns
        self.served_ns = 0
        self.since_ns = now_ns

    def serve(self, now_ns: int, quantum_ns: int) -> None:
        """Count service up to now; with the quantum of each level used up it sinks to the next one.

        The quantum of level i is `quantum_ns` times 2^i. A level is left at the instant at which its quantum
        ends, so that counting often or seldom gives the same.
        """
        self.served_ns += now_ns - self.since_ns
        self.since_ns = now_ns
        while self.served_ns > quantum_ns << self.level:
            self.served_ns -= quantum_ns << self.level
            self.joined_ns = now_ns - self.served_ns
            self.level += 1

    def promote(self) -> None:
        """Put it first on the highest level."""
        self.level = self.joined_ns = self.served_ns = 0


def join_level(profile: Profile, prompt_tokens: int, quantum_ns: int) -> int:
    """Return the highest level whose quantum covers a prompt (skip-join).

    Args:
        profile: Lengths of prompts and the seconds that each takes, rising; between them the time is on a
            line, and without any it is nothing.
        prompt_tokens: The prompt's length.
        quantum_ns: The quantum of level 0; each further one's is twice as long.
    """
    prefill_ns, level = 0, 0
    if profile:
        right = min(max(1, bisect_left(profile, (prompt_tokens, 0.0))), len(profile) - 1)
        (low, first_s), (high, last_s) = profile[max(0, right - 1)], profile[right]
        share = (prompt_tokens - low) / (high - low) if high > low else 0.0
        prefill_ns = round((first_s + (last_s - first_s) * share) * 1e9)
    while quantum_ns << level < prefill_ns:
        level += 1
    return level


class FeedbackQueue:
    """Requests without a seat.

    Args:
        jobs: By request id; of those in the queue nobody changes level or place.
    """

    def __init__(self, jobs: Mapping[int, Job]) -> None:
        self._jobs = jobs
        self._levels: list[list[tuple[Place, Sequence]]] = []
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Sequence]:
        for queue in self._levels:
            for _, sequence in queue:
                yield sequence

    def rank(self, sequence: Sequence) -> tuple[int, Place]:
        """Return what orders all requests: the smallest runs first."""
        job = self._jobs[sequence.request.id]
        return job.level, (job.joined_ns, sequence.arrival_order, sequence.request.id)

    def push(self, sequence: Sequence) -> None:
        """Add a sequence."""
        level, place = self.rank(sequence)
        while len(self._levels) <= level:
            self._levels.append([])
        insort(self._levels[level], (place, sequence))
        self._length += 1

    push_back = push

    def head(self) -> Sequence:
        """Return the next sequence without removing it."""
        return next(iter(self))

    def pop_head(self) -> Sequence:
        """Remove and return the next sequence."""
        head = self.head()
        self.discard(head)
        return head

    def discard(self, sequence: Sequence) -> None:
        """Remove a sequence from anywhere in the queue."""
        level, place = self.rank(sequence)
        queue = self._levels[level]
        del queue[bisect_left(queue, place, key=lambda entry: entry[0])]
        self._length -= 1

    take = discard
