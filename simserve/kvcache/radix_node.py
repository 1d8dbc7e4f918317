"""A run of tokens in a radix tree, and the arithmetic on segments with which runs are compared and cut.

Tokens are segments of streams, so a run of a thousand tokens is one comparison and not a thousand. All lists
are merged (`prefix_keys.merge_segments`): where two lists differ in a segment, the tokens differ there.
A place in a list is (index of a segment, tokens of it that lie before the place).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from simserve.errors import IntegrityError
from simserve.kvcache.prefix_keys import merge_segments
from simserve.workload.request import Segment


class RadixNode:
    """A run of tokens below `parent`; made and mutated by `radix.RadixCache` alone.

    Attributes:
        parent: None for the root, and for a node that has been evicted.
        place: Its key among the parent's children: the first page of its tokens (with the namespace below
            the root).
        key: Its tokens.
        length: How many.
        depth: Tokens from the root to its end.
        reach: Greatest depth that a sequence through this node has ever had (TLRU's history).
        children: In the order in which they came; a split keeps the place.
        locks: Requests that hold the path to this node or below it.
        access, created: Ticks of the cache's clock.
        hits: Insertions that went through it and counted.
        priority: Greatest priority of those.
        queued, mark: What the eviction policy keeps with it.
        on_device: Whether its KV entries are on the GPU; all are, unless there is host memory behind it.
    """

    __slots__ = (
        "access",
        "children",
        "created",
        "depth",
        "hits",
        "key",
        "length",
        "locks",
        "mark",
        "parent",
        "place",
        "priority",
        "queued",
        "reach",
    )

    on_device = True

    def __init__(
        self, parent: RadixNode | None, place: Hashable, key: list[Segment], length: int, tick: int
    ) -> None:
        self.parent = parent
        self.place = place
        self.key = key
        self.length = length
        self.depth: int = length if parent is None else parent.depth + length
        self.reach = self.depth
        self.children: dict[Hashable, RadixNode] = {}
        self.locks = 0
        self.access = tick
        self.created = tick
        self.hits = 0
        self.priority = 0
        self.queued: Any = None
        self.mark: Any = None

    @property
    def evictable(self) -> bool:
        """Whether it is a leaf that nobody has locked."""
        return not self.locks and not self.children and self.parent is not None

    def __repr__(self) -> str:
        return f"RadixNode(depth={self.depth}, length={self.length}, locks={self.locks})"


def path_segments(node: RadixNode) -> list[Segment]:
    """Return the tokens from the root to the end of a node."""
    runs = []
    passed: RadixNode | None = node
    while passed is not None:
        runs.append(passed.key)
        passed = passed.parent
    return merge_segments(segment for run in reversed(runs) for segment in run)


def take_tokens(segments: Sequence[Segment], index: int, offset: int, tokens: int) -> list[Segment]:
    """Return `tokens` tokens from a place on."""
    taken = []
    while tokens > 0:
        stream, start, length = segments[index]
        length -= offset
        if length > tokens:
            length = tokens
        taken.append(Segment(stream, start + offset, length))
        tokens -= length
        index += 1
        offset = 0
    return taken


def skip_tokens(segments: Sequence[Segment], index: int, offset: int, tokens: int) -> tuple[int, int]:
    """Return the place `tokens` tokens after a place."""
    offset += tokens
    while offset and offset >= segments[index].length:
        offset -= segments[index].length
        index += 1
    return index, offset


def first_page(segments: Sequence[Segment], index: int, offset: int, page_size: int) -> Hashable:
    """Return what tells one page of tokens from another: (stream, start) if it lies in one segment."""
    stream, start, length = segments[index]
    if length - offset >= page_size:
        return stream, start + offset
    return tuple(take_tokens(segments, index, offset, page_size))


def follow(
    key: Sequence[Segment], segments: Sequence[Segment], index: int, offset: int, limit: int
) -> tuple[int, int, int]:
    """Follow a run from a place on while the tokens agree, for at most `limit` tokens.

    Returns:
        How many tokens agree, and the place after them.
    """
    matched = 0
    for stream, start, length in key:
        other = segments[index]
        if other.stream != stream or other.start + offset != start:
            break
        common = other.length - offset
        if common > length:
            common = length
        if common > limit - matched:
            common = limit - matched
        matched += common
        offset += common
        if offset == other.length:
            index += 1
            offset = 0
        if common < length or matched == limit:
            break
    return matched, index, offset


def check_node(node: RadixNode, page_size: int) -> None:
    """Check that a node is where its parent has it, holds whole pages, and is locked as its children are.

    Raises:
        IntegrityError: If it does not.
    """
    parent = node.parent
    if parent is None or parent.children.get(node.place) is not node:
        raise IntegrityError(f"{node} is not among the children of its parent")
    if node.depth != parent.depth + node.length or node.length != sum(s.length for s in node.key):
        raise IntegrityError(f"{node} has another length or depth than its tokens")
    if node.length <= 0 or node.length % page_size:
        raise IntegrityError(f"{node} holds no whole number of pages")
    if node.locks < sum(child.locks for child in node.children.values()):
        raise IntegrityError(f"{node} has fewer locks than its children")
    if node.evictable and node.queued is None:
        raise IntegrityError(f"{node} is evictable and unknown to the eviction policy")
