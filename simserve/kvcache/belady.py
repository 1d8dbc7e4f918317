"""The most that any eviction policy can hit: Belady's optimum over a known sequence of requests.

Belady, "A study of replacement algorithms for a virtual-storage computer", IBM Systems Journal 5(2), 1966:
drop what will be used again last. Requests are served one after the other; all pages of a request are in
memory while it runs, and a page of a prefix is a hit only if all pages before it are.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Sequence


def count_optimal_hits(accesses: Sequence[tuple[Sequence[Hashable], int]], capacity_pages: int) -> int:
    """Return how many page hits an eviction policy that knows the future has: no policy has more.

    Args:
        accesses: For each request in turn the keys of its pages, each of which stands for all tokens up to
            the page's end (`prefix_keys.block_keys`), and how many of the first of them it looks up; the
            others it makes anew in any case.
        capacity_pages: Pages in memory.

    Raises:
        ValueError: If a request has more pages than there are.
    """
    returns = _find_returns(accesses)
    kept: dict[Hashable, tuple[int, int]] = {}
    # (-next access, -depth, key): what is used again last goes first, and of a request the last page first.
    queue: list[tuple[int, int, Hashable]] = []
    hits = 0
    for number, (keys, looked_up) in enumerate(accesses):
        if len(keys) > capacity_pages:
            raise ValueError(f"access {number} has {len(keys)} pages, capacity is {capacity_pages}")
        found = [kept.pop(key, None) is not None for key in keys]
        hits += sum(found[:looked_up])
        while len(kept) + len(keys) > capacity_pages:
            next_access, depth, key = heapq.heappop(queue)
            if kept.get(key) == (next_access, depth):
                del kept[key]
        for depth, (key, next_access) in enumerate(zip(keys, returns[number], strict=True)):
            # Not worth keeping: nobody looks it up before it is made anew.
            if next_access:
                kept[key] = entry = (-next_access, -depth)
                heapq.heappush(queue, (*entry, key))
    return hits


def _find_returns(accesses: Sequence[tuple[Sequence[Hashable], int]]) -> list[list[int]]:
    """Return for each page of each access the number of the next one that looks it up; 0: none does.

    0 too if it is made anew before.
    """
    returns: list[list[int]] = []
    upcoming: dict[Hashable, int] = {}
    for number in range(len(accesses) - 1, -1, -1):
        keys, looked_up = accesses[number]
        returns.append([upcoming.get(key, 0) for key in keys])
        for depth, key in enumerate(keys):
            upcoming[key] = number if depth < looked_up else 0
    returns.reverse()
    return returns
