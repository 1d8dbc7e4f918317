"""What finds a place for a contiguous region: the contract of `holes` and `buddy`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

# What `allocate` returns when no hole is large enough.
NOWHERE = -1


class Allocator(Protocol):
    """Gives out regions of `0 ... capacity - 1`.

    Attributes:
        num_free: Units in no region.
    """

    num_free: int

    @property
    def largest_hole(self) -> int:
        """Units of the largest region that fits now."""

    @property
    def largest_possible(self) -> int:
        """Units of the largest region that fits into the empty memory."""

    def rounded(self, size: int) -> int:
        """Return how many units a region of `size` units takes; the other methods are given such sizes."""

    def allocate(self, size: int) -> int:
        """Take a region of `size` units and return its start, or NOWHERE."""

    def extend(self, start: int, size: int, new_size: int) -> bool:
        """Enlarge a region in its place, or change nothing and return False."""

    def free(self, start: int, size: int) -> None:
        """Return a region, and join it with what is free beside it."""

    def holes(self) -> Iterator[tuple[int, int]]:
        """Yield (start, size) of every hole, by address."""

    def check_integrity(self) -> None:
        """Check the holes against each other. Raises IntegrityError."""
