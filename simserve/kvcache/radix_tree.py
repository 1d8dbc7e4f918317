"""The shape of a radix tree: walking down along a prefix, splitting a node, adding a leaf.

What it is for, locks and eviction, stands in `radix`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import ClassVar

from simserve.kvcache.eviction import EvictionPolicy
from simserve.kvcache.radix_node import RadixNode, first_page, follow, skip_tokens, take_tokens
from simserve.workload.request import Segment


class RadixTree:
    """Runs of tokens by their prefixes.

    Args:
        page_size: Tokens per page; nodes hold whole pages.
        eviction: Is told of leaves that were used or have come, as it asks to be.
        split_keeps_creation: Whether the upper part of a split node keeps its time of creation.

    Attributes:
        root: Empty.
        num_nodes: Without the root.
        node_type: What its nodes are.
    """

    node_type: ClassVar[type[RadixNode]] = RadixNode

    def __init__(self, page_size: int, eviction: EvictionPolicy, split_keeps_creation: bool) -> None:
        self.page_size = page_size
        self._eviction = eviction
        self._split_keeps_creation = split_keeps_creation
        # Grows with every walk and every new node; nothing depends on a clock.
        self._tick = 0
        self.root = self.node_type(None, None, [], 0, 0)
        self.num_nodes = 0

    def peek(self, segments: Sequence[Segment], tokens: int, namespace: Hashable = None) -> int:
        """Return how many tokens `RadixCache.match` would find; changes nothing."""
        return self.measure_path(segments, tokens, namespace)[0]

    def measure_path(
        self, segments: Sequence[Segment], tokens: int, namespace: Hashable = None
    ) -> tuple[int, int]:
        """Return how many tokens a match would find, and how many of them nobody has locked."""
        page_size = self.page_size
        tokens -= tokens % page_size
        node = self.root
        matched = idle = index = offset = 0
        while matched < tokens:
            place = first_page(segments, index, offset, page_size)
            child = node.children.get((namespace, place) if namespace is not None and not matched else place)
            if child is None:
                break
            common, index, offset = follow(child.key, segments, index, offset, tokens - matched)
            common -= common % page_size
            matched += common
            if not child.locks:
                idle += common
            if common < child.length:
                break
            node = child
        return matched, idle

    def nodes(self) -> Iterator[RadixNode]:
        """Yield all nodes but the root, each before its children."""
        stack = list(reversed(self.root.children.values()))
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children.values()))

    def _descend(
        self, segments: Sequence[Segment], tokens: int, namespace: Hashable
    ) -> tuple[RadixNode, int, int, int]:
        """Walk down along `tokens` tokens (whole pages); returns the last node, its depth, and the place."""
        self._tick = tick = self._tick + 1
        page_size = self.page_size
        node = self.root
        matched = index = offset = 0
        while matched < tokens:
            place = first_page(segments, index, offset, page_size)
            if namespace is not None and not matched:
                place = (namespace, place)
            child = node.children.get(place)
            if child is None:
                break
            child.access = tick
            common, next_index, next_offset = follow(child.key, segments, index, offset, tokens - matched)
            if common < child.length:
                common -= common % page_size
                index, offset = skip_tokens(segments, index, offset, common)
                matched += common
                node = self._split(child, common)
                break
            index, offset = next_index, next_offset
            matched += common
            node = child
        if not self._eviction.rising and node.evictable:
            self._eviction.offer(node)
        return node, matched, index, offset

    def _add_leaf(
        self,
        parent: RadixNode,
        segments: Sequence[Segment],
        index: int,
        offset: int,
        tokens: int,
        namespace: Hashable,
    ) -> RadixNode:
        place = first_page(segments, index, offset, self.page_size)
        if namespace is not None and parent is self.root:
            place = (namespace, place)
        self._tick += 1
        leaf = self.node_type(parent, place, take_tokens(segments, index, offset, tokens), tokens, self._tick)
        parent.children[place] = leaf
        self.num_nodes += 1
        return leaf

    def _split(self, node: RadixNode, tokens: int) -> RadixNode:
        """Cut a node behind its first `tokens` tokens; return the new upper part.

        The node stays the same object as the lower part: who has locked it still holds the whole path.
        """
        parent = node.parent
        assert parent is not None
        self._tick += 1
        upper = self.node_type(parent, node.place, take_tokens(node.key, 0, 0, tokens), tokens, self._tick)
        if self._split_keeps_creation:
            upper.created = node.created
        upper.locks = node.locks
        upper.hits = node.hits
        upper.priority = node.priority
        upper.reach = node.reach
        parent.children[node.place] = upper
        index, offset = skip_tokens(node.key, 0, 0, tokens)
        node.length -= tokens
        node.key = take_tokens(node.key, index, offset, node.length)
        node.place = first_page(node.key, 0, 0, self.page_size)
        node.parent = upper
        upper.children[node.place] = node
        self.num_nodes += 1
        if not self._eviction.rising and node.evictable:
            self._eviction.offer(node)
        return upper
