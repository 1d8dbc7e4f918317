"""The eviction orders of SGLang 0.5.23, each a key (`radix_eviction_policy`)."""

from __future__ import annotations

from typing import ClassVar

from simserve import registry
from simserve.kvcache.eviction import EvictionPolicy
from simserve.kvcache.radix_node import RadixNode


@registry.register("eviction", "lru")
class LRU(EvictionPolicy):
    """Least recently used first (SGLang's default)."""

    def key(self, node: RadixNode) -> int:
        """Tick of the last use."""
        return node.access


@registry.register("eviction", "mru")
class MRU(EvictionPolicy):
    """Most recently used first: good where a set larger than the cache is read in a circle."""

    rising = False

    def key(self, node: RadixNode) -> int:
        """Tick of the last use, the latest first."""
        return -node.access


@registry.register("eviction", "lfu")
class LFU(EvictionPolicy):
    """Least frequently used first."""

    def key(self, node: RadixNode) -> tuple[int, int]:
        """Hits, then the last use."""
        return node.hits, node.access


@registry.register("eviction", "fifo")
class FIFO(EvictionPolicy):
    """First in, first out."""

    def key(self, node: RadixNode) -> int:
        """Tick of its creation."""
        return node.created


@registry.register("eviction", "filo")
class FILO(EvictionPolicy):
    """First in, last out."""

    def key(self, node: RadixNode) -> int:
        """Tick of its creation, the latest first."""
        return -node.created


@registry.register("eviction", "priority")
class Priority(EvictionPolicy):
    """Lowest priority of the requests that used it first, then least recently used."""

    def key(self, node: RadixNode) -> tuple[int, int]:
        """Priority, then the last use."""
        return node.priority, node.access


@registry.register("eviction", "slru")
class SLRU(EvictionPolicy):
    """Segmented LRU: what has been hit `threshold` times goes after all else (Karedla et al., 1994).

    Karedla, Love and Wherry, "Caching strategies to improve disk system performance", 1994.
    """

    option_defaults: ClassVar = {"threshold": 2}

    def __init__(self, **options: float) -> None:
        super().__init__(**options)
        self.threshold = self.options["threshold"]

    def key(self, node: RadixNode) -> tuple[bool, int]:
        """Whether it is protected, then the last use."""
        return node.hits >= self.threshold, node.access


@registry.register("eviction", "tlru")
class TLRU(EvictionPolicy):
    """LRU after the tails of long histories: what a next turn could recompute under a bound goes first.

    SGLang: a sequence that once was `reach` tokens long and comes back with `next_prompt_estimate` more
    would recompute at most `threshold` tokens if all of it but the last of those were gone. A node that lies
    wholly in that tail goes first.
    """

    option_defaults: ClassVar = {"threshold": 0, "next_prompt_estimate": 0}
    rising = False  # a split raises where a node begins

    def __init__(self, **options: float) -> None:
        super().__init__(**options)
        self.threshold = self.options["threshold"]
        self.next_prompt_estimate = self.options["next_prompt_estimate"]

    def key(self, node: RadixNode) -> tuple[int, int]:
        """-1 for a tail, 0 for the rest; then the last use."""
        tail = max(node.reach + self.next_prompt_estimate - self.threshold, 0)
        return -1 if node.depth - node.length >= tail else 0, node.access
