"""Runs: blocks that were filled one after the other and are held by the same requests; and tables of them.

Such blocks share their fate: they are released together, the last first, and taken again in that order.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from simserve.kvcache.prefix_keys import Span
from simserve.workload.request import Request


class Run:
    """Blocks in token order; the keys of block i is `key + i * block_size` (see `prefix_keys`).

    Attributes:
        key: Key of the first block, or `UNKEYED`.
        size: Blocks. Of a free run the last are taken first.
        hashed: Of a run without a key: blocks with a hash; the others are taken first.
        references: Tables that hold it; 0: it lies in the free queue.
        rest: The run that was split off its end, while those who held both may still hold it.
        before, after: Neighbours in the free queue, None outside of it: a taken run keeps nothing alive.
    """

    __slots__ = ("after", "before", "hashed", "key", "references", "rest", "size")

    def __init__(self, key: int, size: int) -> None:
        self.key = key
        self.size = size
        self.hashed = 0
        self.references = 0
        self.rest: Run | None = None
        self.before: Run | None = None
        self.after: Run | None = None

    def link_before(self, after: Run) -> None:
        """Take the place in the free queue before another run."""
        before = after.before
        assert before is not None
        self.before = before
        self.after = after
        before.after = self
        after.before = self

    def unlink(self) -> None:
        """Leave the free queue."""
        before, after = self.before, self.after
        assert before is not None
        assert after is not None
        before.after = after
        after.before = before
        self.before = self.after = None

    def parts(self, size: int) -> list[Run]:
        """Return the runs into which this one, held with `size` blocks, has been split."""
        parts = []
        part: Run | None = self
        while size > 0:
            assert part is not None, "a run was split by more than it had"
            parts.append(part)
            size -= part.size
            part = part.rest
        return parts


class Hits(NamedTuple):
    """What a lookup found: runs, how many leading blocks of each, and of all."""

    runs: list[Run]
    sizes: list[int]
    blocks: int


# For requests that share nothing; nobody mutates it.
NO_HITS = Hits([], [], 0)


class Table(Protocol):
    """What a sequence keeps for the cache; only the cache mutates it.

    Attributes:
        runs, sizes: Runs of its leading blocks, which others may share, and how many blocks of each it holds.
        tracked: Blocks in those runs.
        private: Blocks after those.
        shared_limit: How many leading blocks may be shared with another request.
        key_spans: Keys of its blocks, None until they have been asked for.
        published: How many leading full blocks are in the cache.
    """

    request: Request
    runs: list[Run]
    sizes: list[int]
    tracked: int
    private: int
    shared_limit: int
    key_spans: list[Span] | None
    published: int
