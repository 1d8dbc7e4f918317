"""The buddy system: regions of powers of two, each aligned to its size.

Knowlton, "A fast storage allocator", CACM 8(10), 1965; Knuth, volume 1, section 2.5, algorithms R and S. It
is what vLLM's paper gives its Orca baselines (Kwon et al., SOSP 2023, section 6.1).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

from simserve.errors import IntegrityError
from simserve.kvcache.allocator import NOWHERE


class BuddyAllocator:
    """Gives out regions of powers of two of `0 ... capacity - 1`.

    A capacity that is no power of two begins as the powers of two that it is made of, the largest first.

    Args:
        capacity: Units of the memory.

    Attributes:
        num_free: Units in no region.
    """

    def __init__(self, capacity: int) -> None:
        self.num_free = capacity
        self._capacity = capacity
        # By order: starts of the free blocks of 2 ** order units, sorted.
        self._free: list[list[int]] = [[] for _ in range(capacity.bit_length())]
        start = 0
        for order in range(capacity.bit_length() - 1, -1, -1):
            if capacity >> order & 1:
                self._free[order].append(start)
                start += 1 << order

    def rounded(self, size: int) -> int:
        """Return how many units a region of `size` units takes: the next power of two."""
        return 1 << (size - 1).bit_length()

    @property
    def largest_hole(self) -> int:
        """Units of the largest free block: what one region can have at most."""
        for order in range(len(self._free) - 1, -1, -1):
            if self._free[order]:
                return 1 << order
        return 0

    @property
    def largest_possible(self) -> int:
        """Units of the largest region that fits into the empty memory."""
        return 1 << (self._capacity.bit_length() - 1) if self._capacity else 0

    def allocate(self, size: int) -> int:
        """Take a region of `rounded(size)` units and return its start (the lowest), or NOWHERE."""
        order = (size - 1).bit_length()
        free = self._free
        found = order
        while found < len(free) and not free[found]:
            found += 1
        if found >= len(free):
            return NOWHERE
        start = free[found].pop(0)
        while found > order:
            found -= 1
            insort(free[found], start + (1 << found))
        self.num_free -= 1 << order
        return start

    def extend(self, start: int, size: int, new_size: int) -> bool:
        """Enlarge a region in its place, if it is a left buddy all the way up and the right ones are free."""
        order, wanted = (size - 1).bit_length(), (new_size - 1).bit_length()
        buddies = [(each, start + (1 << each)) for each in range(order, wanted)]
        if any(start >> each & 1 or not self._is_free(each, buddy) for each, buddy in buddies):
            return False
        for each, buddy in buddies:
            self._take(each, buddy)
            self.num_free -= 1 << each
        return True

    def free(self, start: int, size: int) -> None:
        """Return a region, and join it with its buddy as long as that is free too."""
        order = (size - 1).bit_length()
        self.num_free += 1 << order
        while self._is_free(order, start ^ (1 << order)):
            self._take(order, start ^ (1 << order))
            start &= ~(1 << order)
            order += 1
        insort(self._free[order], start)

    def holes(self) -> Iterator[tuple[int, int]]:
        """Yield (start, size) of every free block, by address."""
        found = [(start, 1 << order) for order, starts in enumerate(self._free) for start in starts]
        return iter(sorted(found))

    def check_integrity(self) -> None:
        """Check alignment, and that no two free buddies stand apart. Raises IntegrityError."""
        total = 0
        for order, starts in enumerate(self._free):
            total += len(starts) << order
            for start in starts:
                if start & ((1 << order) - 1):
                    raise IntegrityError(
                        f"the free block at {start} is not aligned to its {1 << order} units"
                    )
                if self._is_free(order, start ^ (1 << order)):
                    raise IntegrityError(f"the free block at {start} and its buddy were not joined")
        if total != self.num_free:
            raise IntegrityError("the free blocks do not add up to the free memory")

    def _is_free(self, order: int, start: int) -> bool:
        starts = self._free[order]
        at = bisect_left(starts, start)
        return at < len(starts) and starts[at] == start

    def _take(self, order: int, start: int) -> None:
        starts = self._free[order]
        del starts[bisect_left(starts, start)]
