"""Counts, while a simulation runs, what contiguous regions hold, and writes it into a `FragmentationLog`."""

from __future__ import annotations

from simserve.kvcache.fragmentation import FragmentationLog


class Occupancy:
    """The places in all regions together, in tokens.

    Args:
        capacity_tokens: Places of the memory.

    Attributes:
        log: Sums and rows so far.
        asked: Places that regions were asked to have.
        final: Places in regions that will ever hold a token.
    """

    def __init__(self, capacity_tokens: int) -> None:
        self.log = FragmentationLog(capacity_tokens)
        self.asked = 0
        self.final = 0
        # Whether a region changed since the last row, and who was refused since one last changed.
        self._changed = True
        self._refused: set[int] = set()

    def change(self, asked: int, final: int) -> None:
        """Count a region that was taken, or returned (both below 0)."""
        self.asked += asked
        self.final += final
        self._changed = True
        self._refused.clear()

    def refuse(self, request_id: int, *, would_fit: bool) -> None:
        """Count a refusal, once for each request and state of the memory, however often it asks.

        Args:
            request_id: Who found no hole.
            would_fit: Whether the free memory would have sufficed in one piece.
        """
        if request_id not in self._refused:
            self._refused.add(request_id)
            self.log.refused += 1
            self.log.refused_by_fragmentation += would_fit

    def sample(self, step: int, steps: int, used: int, growth: int, free: int, largest_hole: int) -> None:
        """Sum up steps in which no region changes; a row too, if one changed since the last.

        Args:
            step, steps: The first step's number, and how many there are.
            used: Tokens held in the first step.
            growth: How many more are held in each step than in the one before.
            free, largest_hole: Places in no region, and those of the largest hole.
        """
        log, final = self.log, self.final
        unused, rounded = self.asked - final, log.capacity_tokens - free - self.asked
        used_sum = steps * used + growth * (steps * (steps - 1) // 2)
        log.add(steps, used_sum, steps * final - used_sum, unused, rounded, free, largest_hole)
        if self._changed:
            log.append(step, used, final - used, unused, rounded, free, largest_hole)
            self._changed = False
