"""How often each prefix was found in a prefix cache, and how many tokens were not computed again for it.

A tree of the prompts that hit, in segments: a node is a run of one stream behind what comes before it. Where
a request hits, all nodes that its hit covers count it, so the tokens saved of all nodes are the cached
tokens of all requests, whatever the cache is made of.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from simserve.workload.request import Segment

# Nodes kept at most: sessions make one a turn, and what has been hit least often goes first.
MOST_NODES = 1 << 16
# What the chain of segments before a prompt's first token hashes to; the key of no node.
_ROOT = 0


class SharedPrefix(NamedTuple):
    """A run of tokens that requests had in common.

    Attributes:
        segments: The prompt from its first token to the end of the longest hit in this run.
        tokens: Of the run: its part of the longest hit.
        requests: How many hit it.
        saved_tokens: What they did not compute of it.
    """

    segments: tuple[Segment, ...]
    tokens: int
    requests: int
    saved_tokens: int

    @property
    def prefix_tokens(self) -> int:
        """Tokens from the prompt's begin to the run's end."""
        return sum(segment.length for segment in self.segments)


@dataclass(slots=True)
class _Node:
    """A run of one stream.

    Attributes:
        parent: Key of the run before it.
        before: How many tokens of that are before it.
        stream, start: Where it begins.
        requests, saved: How many hit it, and the tokens of it in their hits.
        reach: Tokens of it in the longest hit.
    """

    parent: int
    before: int
    stream: int
    start: int
    requests: int
    saved: int
    reach: int


@dataclass(slots=True)
class PrefixCounts:
    """Counts hits; `largest` tells what was worth most.

    Attributes:
        nodes: By the chain of segments before it, and its own stream and start.
        forgotten_tokens: Saved tokens of nodes that are no longer kept.
    """

    nodes: dict[int, _Node] = field(default_factory=dict)
    forgotten_tokens: int = 0

    def count(self, prompt: Iterable[Segment], cached_tokens: int) -> None:
        """Count a request that found the first `cached_tokens` tokens of its prompt in the cache."""
        nodes = self.nodes
        chain = parent = _ROOT
        before = 0
        left = cached_tokens
        for stream, start, length in prompt:
            key = hash((chain, stream, start))
            taken = length if length < left else left
            node = nodes.get(key)
            if node is None:
                nodes[key] = _Node(parent, before, stream, start, 1, taken, taken)
            else:
                node.requests += 1
                node.saved += taken
                if taken > node.reach:
                    node.reach = taken
            left -= taken
            if left <= 0:
                break
            parent, before = key, length
            chain = key + length
        if len(nodes) > MOST_NODES:
            self._forget()

    def largest(self, most: int) -> list[SharedPrefix]:
        """Return the runs that saved the most tokens; of equal ones the shorter prefix first.

        Runs that go on for all who hit them are one.
        """
        nodes = self.nodes
        # A run is hit by no more requests than the one before it: with as many it is the only one behind it.
        behind = {
            node.parent: key
            for key, node in nodes.items()
            if node.parent in nodes and nodes[node.parent].requests == node.requests
        }
        inner = set(behind.values())
        found = []
        for key, node in nodes.items():
            if key not in inner:
                saved, tokens, last = node.saved, node.reach, key
                while last in behind:
                    last = behind[last]
                    saved += nodes[last].saved
                    tokens += nodes[last].reach
                found.append((saved, tokens, node.requests, last))
        found.sort(key=lambda each: (-each[0], each[1], each[2], nodes[each[3]].stream, nodes[each[3]].start))
        return [
            SharedPrefix(self._path(last), tokens, requests, saved)
            for saved, tokens, requests, last in found[:most]
        ]

    def _path(self, key: int) -> tuple[Segment, ...]:
        """Return a prompt from its first token to the end of the longest hit in a run."""
        path: list[Segment] = []
        length = self.nodes[key].reach
        while key in self.nodes:
            node = self.nodes[key]
            path.append(Segment(node.stream, node.start, length))
            key, length = node.parent, node.before
        return tuple(reversed(path))

    def _forget(self) -> None:
        """Drop the runs hit least often, and so never one that another stands behind."""
        fewest = 1
        while len(self.nodes) > MOST_NODES // 2:
            for key in [key for key, node in self.nodes.items() if node.requests <= fewest]:
                self.forgotten_tokens += self.nodes.pop(key).saved
            fewest *= 2
