"""First fit, best fit and the buddy system against a bitmap of the memory."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.kvcache.allocator import NOWHERE, Allocator
from simserve.kvcache.buddy import BuddyAllocator
from simserve.kvcache.holes import BestFitAllocator, FirstFitAllocator

# (what, number): take a region of that size, return or enlarge the region of that index.
OPERATIONS = st.lists(
    st.tuples(st.sampled_from(("take", "take", "free", "extend")), st.integers(0, 40)), max_size=60
)


class Bitmap:
    """The memory, one flag a unit: whether it is taken."""

    def __init__(self, capacity: int) -> None:
        self.taken = [False] * capacity

    def set(self, start: int, size: int, to: bool) -> None:
        assert all(unit is not to for unit in self.taken[start : start + size]), "taken or free twice"
        assert start + size <= len(self.taken)
        self.taken[start : start + size] = [to] * size

    def holes(self) -> list[tuple[int, int]]:
        """(start, size) of every maximal run of free units."""
        found, start = [], 0
        for is_taken, run in groupby(self.taken):
            size = len(list(run))
            if not is_taken:
                found.append((start, size))
            start += size
        return found

    def is_free(self, start: int, size: int) -> bool:
        return start + size <= len(self.taken) and not any(self.taken[start : start + size])


def first_fit(bitmap: Bitmap, size: int) -> int:
    return next((start for start, hole in bitmap.holes() if hole >= size), NOWHERE)


def best_fit(bitmap: Bitmap, size: int) -> int:
    fitting = [(hole, start) for start, hole in bitmap.holes() if hole >= size]
    return min(fitting)[1] if fitting else NOWHERE


@settings(max_examples=100, deadline=None)
@given(capacity=st.integers(1, 120), operations=OPERATIONS)
@pytest.mark.parametrize(("make", "choose"), [(FirstFitAllocator, first_fit), (BestFitAllocator, best_fit)])
def test_a_list_of_holes_decides_as_a_bitmap(
    make: type[FirstFitAllocator],
    choose: Callable[[Bitmap, int], int],
    capacity: int,
    operations: list[tuple[str, int]],
) -> None:
    allocator, bitmap = make(capacity), Bitmap(capacity)
    regions: list[tuple[int, int]] = []
    for what, number in operations:
        if what == "take":
            expected = choose(bitmap, number + 1)
            assert allocator.allocate(number + 1) == expected
            if expected != NOWHERE:
                bitmap.set(expected, number + 1, True)
                regions.append((expected, number + 1))
        elif regions and what == "free":
            start, size = regions.pop(number % len(regions))
            bitmap.set(start, size, False)
            allocator.free(start, size)
        elif regions:
            index = number % len(regions)
            start, size = regions[index]
            more = 1 + number % 5
            fits = bitmap.is_free(start + size, more)
            assert allocator.extend(start, size, size + more) == fits
            if fits:
                bitmap.set(start + size, more, True)
                regions[index] = (start, size + more)
        assert list(allocator.holes()) == bitmap.holes()
        assert allocator.num_free == bitmap.taken.count(False)
        assert allocator.largest_hole == max((size for _, size in bitmap.holes()), default=0)
        allocator.check_integrity()


@settings(max_examples=100, deadline=None)
@given(capacity=st.integers(1, 150), operations=OPERATIONS)
def test_buddies_never_overlap_and_find_a_place_whenever_an_aligned_one_is_free(
    capacity: int, operations: list[tuple[str, int]]
) -> None:
    allocator, bitmap = BuddyAllocator(capacity), Bitmap(capacity)
    regions: list[tuple[int, int]] = []
    for what, number in operations:
        if what == "take":
            size = allocator.rounded(number + 1)
            aligned = any(bitmap.is_free(start, size) for start in range(0, capacity - size + 1, size))
            start = allocator.allocate(size)
            assert (start != NOWHERE) == aligned
            if start != NOWHERE:
                assert start % size == 0
                bitmap.set(start, size, True)
                regions.append((start, size))
        elif regions and what == "free":
            start, size = regions.pop(number % len(regions))
            bitmap.set(start, size, False)
            allocator.free(start, size)
        elif regions:
            index = number % len(regions)
            start, size = regions[index]
            new = size << (1 + number % 3)
            fits = start % new == 0 and bitmap.is_free(start + size, new - size)
            assert allocator.extend(start, size, new) == fits
            if fits:
                bitmap.set(start + size, new - size, True)
                regions[index] = (start, new)
        assert allocator.num_free == bitmap.taken.count(False)
        allocator.check_integrity()
    for start, size in regions:
        allocator.free(start, size)
    assert allocator.largest_hole == allocator.largest_possible


def test_buddy_regions_are_powers_of_two_of_what_the_capacity_is_made_of() -> None:
    allocator = BuddyAllocator(13)
    assert [allocator.rounded(size) for size in (1, 2, 3, 4, 5, 8, 9)] == [1, 2, 4, 4, 8, 8, 16]
    assert list(allocator.holes()) == [(0, 8), (8, 4), (12, 1)]
    assert allocator.largest_possible == 8
    # The smallest block that is large enough is split: the one of 4, not that of 8.
    assert allocator.allocate(2) == 8
    assert allocator.allocate(1) == 12
    assert list(allocator.holes()) == [(0, 8), (10, 2)]
    allocator.free(8, 2)
    assert list(allocator.holes()) == [(0, 8), (8, 4)]


def test_best_fit_keeps_large_holes_whole_where_first_fit_cuts_them() -> None:
    def carve(allocator: Allocator) -> int:
        for size in (6, 1, 2, 1):
            allocator.allocate(size)
        allocator.free(0, 6)
        allocator.free(7, 2)
        return allocator.allocate(2)

    assert carve(FirstFitAllocator(10)) == 0
    assert carve(BestFitAllocator(10)) == 7
