"""Places for contiguous regions in one stretch of memory: first fit and best fit over a list of holes.

Both keep the holes sorted by address and by size, and join neighbours as soon as a region is returned
(Knuth, "The Art of Computer Programming", volume 1, section 2.5: algorithms A and B).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from itertools import pairwise

from simserve.errors import IntegrityError
from simserve.kvcache.allocator import NOWHERE


class HoleAllocator:
    """Gives out regions of `0 ... capacity - 1`; `choose` says which hole a region comes from.

    Args:
        capacity: Units of the memory.

    Attributes:
        num_free: Units in no region.
    """

    def __init__(self, capacity: int) -> None:
        self.num_free = capacity
        self._capacity = capacity
        self._starts: list[int] = []
        self._size_at: dict[int, int] = {}
        # (size, start) of every hole.
        self._by_size: list[tuple[int, int]] = []
        if capacity:
            self._add(0, capacity)

    def rounded(self, size: int) -> int:
        """Return how many units a region of `size` units takes."""
        return size

    @property
    def largest_hole(self) -> int:
        """Units of the largest hole."""
        return self._by_size[-1][0] if self._by_size else 0

    @property
    def largest_possible(self) -> int:
        """Units of the largest region that fits into the empty memory."""
        return self._capacity

    def choose(self, size: int) -> int:
        """Return the start of the hole that a region of `size` units is cut from; one is large enough."""
        raise NotImplementedError

    def allocate(self, size: int) -> int:
        """Take a region of `size` units and return its start, or NOWHERE."""
        if not self._by_size or self._by_size[-1][0] < size:
            return NOWHERE
        start = self.choose(size)
        self._shrink(start, size)
        return start

    def extend(self, start: int, size: int, new_size: int) -> bool:
        """Enlarge a region in its place, if what follows it is free."""
        more = new_size - size
        if self._size_at.get(start + size, 0) < more:
            return False
        self._shrink(start + size, more)
        return True

    def free(self, start: int, size: int) -> None:
        """Return a region, and join it with the holes beside it."""
        self.num_free += size
        at = bisect_left(self._starts, start)
        if at:
            left = self._starts[at - 1]
            left_size = self._size_at[left]
            if left + left_size == start:
                self._remove(left)
                start = left
                size += left_size
        right_size = self._size_at.get(start + size)
        if right_size is not None:
            self._remove(start + size)
            size += right_size
        self._add(start, size)

    def holes(self) -> Iterator[tuple[int, int]]:
        """Yield (start, size) of every hole, by address."""
        return ((start, self._size_at[start]) for start in self._starts)

    def check_integrity(self) -> None:
        """Check the lists against each other. Raises IntegrityError."""
        holes = list(self.holes())
        if self._by_size != sorted((size, start) for start, size in holes):
            raise IntegrityError("the holes by size and by address differ")
        if sum(size for _, size in holes) != self.num_free:
            raise IntegrityError("the holes do not add up to the free memory")
        for (start, size), (after, _) in pairwise(holes):
            if start + size >= after:
                raise IntegrityError(
                    f"the holes at {start} and {after} overlap, or touch and were not joined"
                )

    # -- the lists ----------------------------------------------------------------------------------------

    def _shrink(self, start: int, size: int) -> None:
        """Take units from the front of a hole."""
        hole = self._size_at[start]
        self.num_free -= size
        self._remove(start)
        if hole > size:
            self._add(start + size, hole - size)

    def _add(self, start: int, size: int) -> None:
        insort(self._starts, start)
        self._size_at[start] = size
        insort(self._by_size, (size, start))

    def _remove(self, start: int) -> None:
        size = self._size_at.pop(start)
        del self._starts[bisect_left(self._starts, start)]
        del self._by_size[bisect_left(self._by_size, (size, start))]


class FirstFitAllocator(HoleAllocator):
    """The hole of the lowest address that is large enough."""

    def choose(self, size: int) -> int:
        """Return the start of the first hole of at least `size` units."""
        size_at = self._size_at
        return next(start for start in self._starts if size_at[start] >= size)


class BestFitAllocator(HoleAllocator):
    """The smallest hole that is large enough; of equal ones that of the lowest address."""

    def choose(self, size: int) -> int:
        """Return the start of the smallest hole of at least `size` units."""
        return self._by_size[bisect_left(self._by_size, (size, 0))][1]
