"""A router's own guess of what each instance has cached: a radix tree over what it sent where.

As in SGLang's cache-aware router: the tree holds the prompts that were routed, each node knows the
instances that got it and when, and least recently used leaves go when an instance's share is over its
bound. It never hears of evictions on the instances, so it is a guess. SGLang's tree holds characters;
this one holds token segments, so that a prompt costs a few operations and not one a token.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from simserve.kvcache.prefix_keys import merge_segments
from simserve.workload.request import Segment

# An instance over its bound is cut to this share of it, so that the cost of looking for the oldest leaves
# is spread over many insertions.
_KEPT_SHARE = 0.9


class _Node:
    """A run of tokens; `used` holds, by instance, the tick of the last prompt that went through it."""

    __slots__ = ("children", "length", "parent", "serial", "start", "stream", "used")

    def __init__(self, parent: _Node | None, segment: Segment, serial: int) -> None:
        self.parent = parent
        self.stream, self.start, self.length = segment
        self.serial = serial
        self.children: dict[tuple[int, int], _Node] = {}
        self.used: dict[int, int] = {}


class PrefixTree:
    """Which instance got which prompt prefix.

    Args:
        num_instances: Instances, numbered from 0.
        max_tokens: Tokens kept for each instance at most.
    """

    def __init__(self, num_instances: int, max_tokens: int) -> None:
        self.sizes = [0] * num_instances
        self.max_tokens = max_tokens
        self._root = _Node(None, Segment(0, 0, 0), 0)
        self._tick = 0
        self._serials = 0

    def match(self, prompt: Sequence[Segment]) -> tuple[int, list[int]]:
        """Return the longest prefix that is known (tokens), and the instances that got all of it, ascending.

        (0, []) if no prefix is known.
        """
        node, matched = self._root, 0
        holders: list[int] = []
        for stream, start, length in merge_segments(prompt):
            end = start + length
            while start < end:
                child = node.children.get((stream, start))
                if child is None:
                    return matched, holders
                node = child
                holders = sorted(child.used)
                if start + child.length > end:
                    # The prompt ends, or goes on with another stream, inside this run.
                    return matched + end - start, holders
                matched += child.length
                start += child.length
        return matched, holders

    def insert(self, prompt: Sequence[Segment], instance: int) -> None:
        """Note that an instance got a prompt; drops its least recently used prefixes when over the bound."""
        self._tick += 1
        node = self._root
        for stream, start, length in merge_segments(prompt):
            end = start + length
            while start < end:
                child = node.children.get((stream, start))
                if child is None:
                    child = self._add(node, Segment(stream, start, end - start))
                elif start + child.length > end:
                    child = self._split(child, end - start)
                if instance not in child.used:
                    self.sizes[instance] += child.length
                child.used[instance] = self._tick
                start += child.length
                node = child
        if self.sizes[instance] > self.max_tokens:
            self._evict(instance)

    def _add(self, parent: _Node, segment: Segment) -> _Node:
        self._serials += 1
        node = _Node(parent, segment, self._serials)
        parent.children[segment[:2]] = node
        return node

    def _split(self, node: _Node, tokens: int) -> _Node:
        """Cut a run behind its first `tokens` tokens; returns the upper part, in the node's place."""
        parent = node.parent
        assert parent is not None
        self._serials += 1
        upper = _Node(parent, Segment(node.stream, node.start, tokens), self._serials)
        upper.used = dict(node.used)
        parent.children[node.stream, node.start] = upper
        node.parent = upper
        node.start += tokens
        node.length -= tokens
        upper.children[node.stream, node.start] = node
        return upper

    def _evict(self, instance: int) -> None:
        """Forget an instance's oldest leaves until its share is down to `_KEPT_SHARE` of the bound.

        What was inserted just now goes only if it alone is over the bound.
        """
        goal = int(self.max_tokens * _KEPT_SHARE)
        pending: dict[_Node, int] = {}
        leaves: list[tuple[int, int, _Node]] = []
        stack = [self._root]
        while stack:
            node = stack.pop()
            held = [child for child in node.children.values() if instance in child.used]
            pending[node] = len(held)
            stack.extend(held)
            if not held and node.parent is not None:
                leaves.append((node.used[instance], node.serial, node))
        heapq.heapify(leaves)
        while leaves and self.sizes[instance] > goal:
            tick, _, node = heapq.heappop(leaves)
            if tick == self._tick and self.sizes[instance] <= self.max_tokens:
                return
            parent = node.parent
            assert parent is not None
            self.sizes[instance] -= node.length
            del node.used[instance]
            if not node.used:
                del parent.children[node.stream, node.start]
            pending[parent] -= 1
            if not pending[parent] and parent.parent is not None:
                heapq.heappush(leaves, (parent.used[instance], parent.serial, parent))
