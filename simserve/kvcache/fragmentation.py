"""Where the memory of contiguous KV regions goes, step by step: what vLLM's paper shows in its figure 2.

A token's place is used, reserved for a later token of the same request, reserved and never used (internal
fragmentation), more than was reserved since the allocator rounds up, or in no region. Of the last, what lies
outside the largest hole is external fragmentation (Wilson et al., "Dynamic storage allocation", 1995).
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field


def _int64() -> array[int]:
    return array("q")


@dataclass(slots=True)
class FragmentationLog:
    """Sums over all steps, and a row at every step at which a region was taken, returned or moved.

    All are tokens; at each moment used + later + unused + rounded + free is the capacity.

    Attributes:
        capacity_tokens: Places for tokens.
        steps: Steps summed up.
        used_sum, later_sum, unused_sum, rounded_sum, free_sum: Over the steps: computed tokens; places
            reserved for tokens to come; places reserved and never to be used; places that rounding up added;
            places in no region.
        scattered_sum: Over the steps: free places outside the largest hole.
        refused: Requests that found no region, once for each state of the memory.
        refused_by_fragmentation: Those of them for which the free memory would have sufficed in one piece.
        moves, moved_tokens: Regions copied to a larger place, and the tokens in them.
        step, used, later, unused, rounded, free, largest_hole: The rows' columns.
    """

    capacity_tokens: int
    steps: int = 0
    used_sum: int = 0
    later_sum: int = 0
    unused_sum: int = 0
    rounded_sum: int = 0
    free_sum: int = 0
    scattered_sum: int = 0
    refused: int = 0
    refused_by_fragmentation: int = 0
    moves: int = 0
    moved_tokens: int = 0
    step: array[int] = field(default_factory=_int64)
    used: array[int] = field(default_factory=_int64)
    later: array[int] = field(default_factory=_int64)
    unused: array[int] = field(default_factory=_int64)
    rounded: array[int] = field(default_factory=_int64)
    free: array[int] = field(default_factory=_int64)
    largest_hole: array[int] = field(default_factory=_int64)

    def add(
        self,
        steps: int,
        used_sum: int,
        later_sum: int,
        unused: int,
        rounded: int,
        free: int,
        largest_hole: int,
    ) -> None:
        """Sum up `steps` steps between which no region changed.

        Args:
            steps: How many.
            used_sum, later_sum: Over these steps.
            unused, rounded, free, largest_hole: In each of them.
        """
        self.steps += steps
        self.used_sum += used_sum
        self.later_sum += later_sum
        self.unused_sum += steps * unused
        self.rounded_sum += steps * rounded
        self.free_sum += steps * free
        self.scattered_sum += steps * (free - largest_hole)

    def append(
        self, step: int, used: int, later: int, unused: int, rounded: int, free: int, largest_hole: int
    ) -> None:
        """Append a row: the state of the memory in step number `step`."""
        self.step.append(step)
        self.used.append(used)
        self.later.append(later)
        self.unused.append(unused)
        self.rounded.append(rounded)
        self.free.append(free)
        self.largest_hole.append(largest_hole)

    def shares(self) -> dict[str, float | None]:
        """Return each part's mean share of the capacity over the steps; None before the first step."""
        return self.shares_of(self.steps * self.capacity_tokens)

    def shares_of(self, places: int) -> dict[str, float | None]:
        """Return each part's share of all places for tokens, a place of each step being one."""
        sums = {
            "used": self.used_sum,
            "reserved_for_later": self.later_sum,
            "never_used": self.unused_sum,
            "rounded_up": self.rounded_sum,
            "free": self.free_sum,
            "outside_largest_hole": self.scattered_sum,
        }
        return {name: total / places if places else None for name, total in sums.items()}
