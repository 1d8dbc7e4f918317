"""SGLang's radix tree with host memory behind the GPU's (HiCache): a node may lie on either, or on both.

What the GPU drops stays in the tree as long as the host has a copy of it, and comes back by a load. The rules
are those of SGLang 0.5.23 (`mem_cache/unified_cache`; docs/background/sglang.md): when a node is copied to
the host, what is dropped on either side, and what an insertion takes up again. The tree counts tokens; when
a copy has landed is not its matter.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple, cast

from simserve.kvcache.radix_host_copies import HostCopies
from simserve.kvcache.radix_host_node import HostedNode, nodes_below, path_to
from simserve.kvcache.radix_node import RadixNode
from simserve.workload.request import Segment


class HostedMatch(NamedTuple):
    """What a lookup found.

    Attributes:
        node, tokens: Where the part that the device holds ends, and how long it is.
        host_node, host_tokens: Where what the host adds to it ends, and how much that is.
    """

    node: HostedNode
    tokens: int
    host_node: HostedNode
    host_tokens: int


class HostedRadixCache(HostCopies):
    """A radix tree over what device and host hold.

    Args:
        page_size: Tokens per page.
        eviction: Chooses what the device drops.
        host_eviction: Chooses what the host drops of what it alone has.
        host_capacity: Tokens for which the host has room; whole pages of it are used.
        write: When a node is copied to the host: "through", when it is entered; "second_use", when it has
            been entered twice; "back", when the device drops it.
        disable: Keep nothing.

    `evictable_tokens` and `protected_tokens` count what the device holds.
    """

    # -- looking up and entering --------------------------------------------------------------------------

    def find(self, segments: Sequence[Segment], tokens: int) -> HostedMatch:
        """Look a prefix up on both sides; refreshes and splits nodes as `match` does."""
        if self.disable:
            root = cast("HostedNode", self.root)
            return HostedMatch(root, 0, root, 0)
        found, matched, _, _ = self._descend(segments, tokens - tokens % self.page_size, None)
        last = node = cast("HostedNode", found)
        host_tokens = 0
        while not node.on_device:
            host_tokens += node.length
            assert node.parent is not None
            node = node.parent
        return HostedMatch(node, matched - host_tokens, last, host_tokens)

    def match(
        self, segments: Sequence[Segment], tokens: int, namespace: Hashable = None
    ) -> tuple[RadixNode, int]:
        """Return the node at the end of the longest prefix on the device, and its tokens."""
        match = self.find(segments, tokens)
        return match.node, match.tokens

    def insert(
        self,
        segments: Sequence[Segment],
        tokens: int,
        priority: int = 0,
        inserted_tokens: int = 0,
        namespace: Hashable = None,
    ) -> tuple[RadixNode, int]:
        """Enter a prefix that has just been computed; return its last node, and what the device had of it.

        What the host alone had is on the device again, with the entries of who has computed it. With write
        "back" no hits are counted.

        Args:
            segments, tokens, priority, inserted_tokens, namespace: See `RadixCache.insert`.
        """
        if self.disable:
            return self.root, 0
        tokens -= tokens % self.page_size
        found, matched, index, offset = self._descend(segments, tokens, namespace)
        node = cast("HostedNode", found)
        taken_up = 0
        self.root.priority = max(self.root.priority, priority)
        for passed in path_to(node):
            passed.priority = max(passed.priority, priority)
            passed.reach = max(passed.reach, tokens)
            if not passed.on_device:
                taken_up += passed.length
                self._take_up(passed)
            if passed.depth > inserted_tokens:
                self._count_hit(passed)
        if matched < tokens:
            leaf = self._add_leaf(node, segments, index, offset, tokens - matched, namespace)
            node.device_children += 1
            node = cast("HostedNode", leaf)
            self.evictable_tokens += node.length
            node.priority = priority
            self._eviction.offer(node)
            if tokens > inserted_tokens:
                self._count_hit(node)
        elif not self._eviction.rising and node.evictable:
            self._eviction.offer(node)
        return node, matched - taken_up

    def enter_on_host(self, segments: Sequence[Segment], begin: int, tokens: int) -> int:
        """Enter tokens `begin ... tokens - 1` of a prefix that have come from behind the host.

        The host has room for them (`evict_host`). With write "back" those that the device has get no copy.

        Returns:
            How many of them the host has gained; none where what came before them is gone.
        """
        tokens -= tokens % self.page_size
        found, matched, index, offset = self._descend(segments, tokens, None)
        node = cast("HostedNode", found)
        gained = 0
        if matched < begin:
            return 0
        if self.write != "back":
            for passed in path_to(node):
                if not passed.on_host:
                    gained += passed.length
                    self._hold_copy(passed)
        if matched < tokens:
            leaf = cast("HostedNode", self._add_leaf(node, segments, index, offset, tokens - matched, None))
            leaf.priority = node.priority
            leaf.on_device = False
            gained += leaf.length
            self._hold_copy(leaf)
            self._eviction.offer(leaf)
        return gained

    def _descend(
        self, segments: Sequence[Segment], tokens: int, namespace: Hashable
    ) -> tuple[RadixNode, int, int, int]:
        place = super()._descend(segments, tokens, namespace)
        node = cast("HostedNode", place[0])
        if not self._eviction.rising and not node.on_device:
            while not node.on_device:
                assert node.parent is not None
                node = node.parent
            if node.evictable:
                self._eviction.offer(node)
        return place

    def load_back(self, node: HostedNode) -> None:
        """Put what the host alone has of a locked path on the device, whose room has been taken."""
        while not node.on_device:
            self._take_up(node)
            assert node.parent is not None
            node = node.parent

    # -- eviction -----------------------------------------------------------------------------------------

    def evict(self, tokens: int) -> int:
        """Let the device drop leaves until at least `tokens` tokens are gone or none is left; return them.

        With write "back" a leaf is copied first; where the host finds no room, it goes with all below it,
        unless somebody needs that.
        """
        evicted = 0
        kept: list[RadixNode] = []
        while evicted < tokens:
            node = cast("HostedNode | None", self._eviction.pop())
            if node is None:
                break
            if self.write == "back" and not node.on_host and not self._back_up(node) and _is_needed(node):
                kept.append(node)
                continue
            evicted += node.length
            self._drop(node)
        for each in kept:
            self._eviction.offer(each)
        return evicted


def _is_needed(node: HostedNode) -> bool:
    """Whether somebody holds a node below one."""
    return any(each.host_locks or each.locks for each in nodes_below(node))
