"""Eviction policies beyond SGLang's: a time to live, recompute cost per byte, S3-FIFO."""

from __future__ import annotations

from collections import deque
from typing import Any, ClassVar

from simserve import registry
from simserve.kvcache.eviction import EvictionPolicy
from simserve.kvcache.eviction_orders import LRU
from simserve.kvcache.radix_node import RadixNode


@registry.register("eviction", "ttl")
class TTL(LRU):
    """LRU, and nothing outlives `ttl_s` seconds without a use."""

    option_defaults: ClassVar = {"ttl_s": 300.0}

    def __init__(self, **options: float) -> None:
        super().__init__(**options)
        ttl_s = self.options["ttl_s"]
        if ttl_s <= 0:
            raise ValueError(f"ttl_s must be above 0, got {ttl_s}")
        self.ttl_ns = round(ttl_s * 1e9)
        # (time, tick then): uses of later ticks, up to the next mark's, happened at that time.
        self._marks: deque[tuple[int, int]] = deque()
        self._stale = 0

    def find_stale(self, now_ns: int, tick: int) -> int:
        """Return the last tick whose uses are `ttl_s` old."""
        marks = self._marks
        if not marks or marks[-1][0] < now_ns:
            marks.append((now_ns, tick))
        while marks[0][0] + self.ttl_ns <= now_ns:
            marks.popleft()
            self._stale = marks[0][1] if marks else tick
        return self._stale

    def stale_at(self) -> int | None:
        """Return when the oldest uses that are still young enough will be `ttl_s` old."""
        return self._marks[0][0] + self.ttl_ns if self._marks else None


@registry.register("eviction", "cost")
class CostAware(EvictionPolicy):
    """Least recompute time saved per byte first, aged as in GreedyDual-Size with Frequency (HP, 1998).

    A token at position p costs a prefill in proportion to 1 + p / `linear_context_tokens`: the part that is
    equal for all tokens, and attention over p tokens. Every token takes the same bytes, so what a node
    saves per byte is its hits times the mean of that. Cherkasova, "Improving WWW proxies performance with
    Greedy-Dual-Size-Frequency caching policy", HPL-98-69R1.

    Options: `linear_context_tokens`, the position at which attention costs as much as the rest of a token's
    prefill. A scenario that leaves it out gets that of its model on its hardware
    (`scenario/eviction_build.py`). The default, for a cache without a scenario, is that of Llama 3.1 8B by
    its FLOPs, parameters / (2 x layers x attention width): 8.03e9 / (2 x 32 x 4096).
    """

    option_defaults: ClassVar = {"linear_context_tokens": 30_600.0}
    rising = False

    def __init__(self, **options: float) -> None:
        super().__init__(**options)
        linear_context_tokens = self.options["linear_context_tokens"]
        if linear_context_tokens <= 0:
            raise ValueError(f"linear_context_tokens must be above 0, got {linear_context_tokens}")
        self.linear_context_tokens = linear_context_tokens
        self._age = 0.0

    def offer(self, node: RadixNode) -> None:
        """Note the value of a leaf as of now: what it saves, on top of the value of what went last."""
        middle = node.depth - (node.length + 1) / 2
        node.mark = self._age + max(node.hits, 1) * (1.0 + middle / self.linear_context_tokens)
        super().offer(node)

    def key(self, node: RadixNode) -> float:
        """Its value when it was last used."""
        return float(node.mark)

    def evicted(self, node: RadixNode) -> None:
        """Age: what comes now starts from the value of what has gone."""
        self._age = node.mark

    def clear(self) -> None:
        """Forget all nodes and the age."""
        super().clear()
        self._age = 0.0


@registry.register("eviction", "s3-fifo")
class S3FIFO(EvictionPolicy):
    """A small queue for newcomers, a main one for what is used again, a memory of what went (SOSP 2023).

    Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023, with its constants. A node
    joins a queue when it becomes an evictable leaf. Its uses are hits after the first, at most three count.

    Options: `small_share`, the share of the evictable tokens above which the small queue gives way.
    """

    option_defaults: ClassVar = {"small_share": 0.1}

    def __init__(self, **options: float) -> None:
        super().__init__(**options)
        small_share = self.options["small_share"]
        if not 0 < small_share < 1:
            raise ValueError(f"small_share must lie between 0 and 1, got {small_share}")
        self.small_share = small_share
        # (node, its tokens when it joined), in order.
        self._small: deque[tuple[RadixNode, int]] = deque()
        self._main: deque[tuple[RadixNode, int]] = deque()
        self._small_tokens = 0
        self._main_tokens = 0
        self._ghosts: dict[Any, None] = {}

    def offer(self, node: RadixNode) -> None:
        """Put a node that waits in no queue into one of them."""
        if node.queued is None:
            if node.mark is None:
                node.mark = 1
            self._join(node, main=self._identify(node) in self._ghosts)

    def pop(self) -> RadixNode | None:
        """Give out the next node that has not been used again."""
        while self._small or self._main:
            share = self.small_share * (self._small_tokens + self._main_tokens)
            from_small = bool(self._small) and (self._small_tokens >= share or not self._main)
            node = self._leave(main=not from_small)
            if not node.evictable:
                continue
            uses = min(node.hits - node.mark, 3)
            if from_small and uses > 1:
                self._join(node, main=True)
            elif not from_small and uses > 0:
                node.mark = node.hits - (uses - 1)
                self._join(node, main=True)
            else:
                if from_small:
                    self._remember(node)
                return node
        return None

    def clear(self) -> None:
        """Forget all nodes and what went."""
        self._small.clear()
        self._main.clear()
        self._ghosts.clear()
        self._small_tokens = self._main_tokens = 0

    def _join(self, node: RadixNode, *, main: bool) -> None:
        node.queued = entry = (node, node.length)
        if main:
            self._main.append(entry)
            self._main_tokens += node.length
        else:
            self._small.append(entry)
            self._small_tokens += node.length

    def _leave(self, *, main: bool) -> RadixNode:
        node, tokens = (self._main if main else self._small).popleft()
        if main:
            self._main_tokens -= tokens
        else:
            self._small_tokens -= tokens
        node.queued = None
        return node

    def _remember(self, node: RadixNode) -> None:
        """Keep as many ghosts as the main queue has nodes."""
        ghosts = self._ghosts
        ghosts[self._identify(node)] = None
        while len(ghosts) > max(len(self._main), 1):
            del ghosts[next(iter(ghosts))]

    @staticmethod
    def _identify(node: RadixNode) -> tuple[Any, int]:
        """Its first page and where that lies: what comes back there is most likely the same."""
        return node.place, node.depth - node.length
