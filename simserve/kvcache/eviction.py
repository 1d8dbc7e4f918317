"""Which leaf of the prefix cache goes next: one small class a policy.

A policy is a key: of the leaves that nobody has locked, the one with the smallest key goes first; of equal
keys the one not used for longer. Leaves wait in a heap that is mended when something is taken out of it, so
that an eviction costs the logarithm of the leaves and a hit costs nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Any, ClassVar

from simserve import registry
from simserve.errors import InputError, UnknownNameError
from simserve.kvcache.radix_node import RadixNode

# A heap that holds more dead entries than living ones is cleaned, but not for less than this.
_SMALL_HEAP = 256


class EvictionPolicy:
    """Base: leaves in a heap by `key`. It belongs to one cache, which calls everything but `key`.

    Attributes:
        rising: Whether a node's key never falls while it is cached. Where it can fall, say False: the cache
            then tells the policy about each use of a leaf.
        ttl_ns: How long an unused node lives; 0: until it is evicted.
        option_defaults: Names and defaults of its options, which are numbers.
        options: Its options.
    """

    option_defaults: ClassVar[Mapping[str, float]] = {}
    rising = True
    ttl_ns = 0

    def __init__(self, **options: float) -> None:
        for name in options:
            if name not in self.option_defaults:
                raise UnknownNameError(f"option of {type(self).__name__}", name, self.option_defaults)
            if isinstance(options[name], bool) or not isinstance(options[name], int | float):
                raise InputError(f"{name}: expected a number, got {options[name]!r}")
        self.options = {**self.option_defaults, **options}
        self._heap: list[tuple[Any, int, int, RadixNode]] = []
        self._serial = 0
        self._room = _SMALL_HEAP

    def key(self, node: RadixNode) -> Any:
        """Return what to sort by; the smallest goes first."""
        raise NotImplementedError

    def offer(self, node: RadixNode) -> None:
        """Take in a node that has become an evictable leaf, or (unless `rising`) one that was used."""
        if node.queued is None or not self.rising:
            heap = self._heap
            if len(heap) > self._room:
                self._clean()
            self._serial += 1
            node.queued = entry = (self.key(node), node.access, self._serial, node)
            heapq.heappush(heap, entry)

    def pop(self) -> RadixNode | None:
        """Give out the evictable leaf that goes next, or None; the cache then drops it or offers it again."""
        heap = self._heap
        while heap:
            entry = heap[0]
            node = entry[3]
            if node.queued is not entry:
                heapq.heappop(heap)
                continue
            if not node.evictable:
                node.queued = None
                heapq.heappop(heap)
                continue
            key = self.key(node)
            if key != entry[0] or node.access != entry[1]:
                node.queued = entry = (key, node.access, entry[2], node)
                heapq.heapreplace(heap, entry)
                continue
            node.queued = None
            heapq.heappop(heap)
            return node
        return None

    def evicted(self, node: RadixNode) -> None:
        """Hear that a node has gone."""

    def find_stale(self, now_ns: int, tick: int) -> int:
        """Return the tick up to which unused nodes have outlived their time; 0: none have.

        Args:
            now_ns: The time; it never goes back.
            tick: The cache's tick now.
        """
        return 0

    def stale_at(self) -> int | None:
        """Return the next time at which `find_stale` may say more than before; None: never."""
        return None

    def clear(self) -> None:
        """Forget all nodes."""
        self._heap.clear()

    def _clean(self) -> None:
        self._heap[:] = [entry for entry in self._heap if entry[3].queued is entry]
        heapq.heapify(self._heap)
        self._room = max(_SMALL_HEAP, 2 * len(self._heap))


def build_eviction(name: str, options: Mapping[str, Any] | None = None) -> EvictionPolicy:
    """Return a new eviction policy.

    Args:
        name: A registered name, or `package.module:Class`.
        options: Keywords of its constructor.

    Raises:
        UnknownNameError: If no such policy is registered.
        InputError: If the policy does not take the options.
    """
    policy = registry.lookup("eviction", name)
    try:
        built: EvictionPolicy = policy(**(options or {}))
    except (InputError, TypeError, ValueError) as error:
        raise InputError(f"eviction policy {name!r}: {error}") from error
    return built
