"""vLLM's KV-cache manager by block ids: one block table a KV group (`block_group`), one free queue.

Groups take from the queue in their order. Rule 16 of vLLM 0.19.0's logs. It serves models with windows, and
decision logs of any model; `paged` does the same for one group of full-attention layers, faster.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Protocol

from simserve.kvcache.block_group import BlockGroup
from simserve.kvcache.block_pool import BlockPool
from simserve.kvcache.prefix_keys import block_keys, stream_at, token_segments
from simserve.workload.request import Request

GroupHits = list[list[int]]


class Table(Protocol):
    """What a sequence keeps for the cache; only the cache mutates it.

    Attributes:
        keys: Keys of its blocks, empty until they have been asked for.
        shared_limit: How many leading blocks may be shared with another request: here no limit.
    """

    request: Request
    keys: list[int]
    shared_limit: int


class GroupedCache:
    """Block tables of one or several KV groups, a list of block ids for each group and request.

    Args:
        pool: The blocks of all groups.
        block_size: Tokens per block.
        windows: Window of each group in tokens, None for full attention.
        enable_prefix_caching: Publish full blocks and look them up.
        drop_last_hit: EAGLE: one hit block fewer in each group.
    """

    def __init__(
        self,
        pool: BlockPool,
        block_size: int,
        windows: Sequence[int | None],
        *,
        enable_prefix_caching: bool,
        drop_last_hit: bool = False,
    ) -> None:
        self.pool = pool
        self.block_size = block_size
        self.windows = tuple(windows)
        self.enable_prefix_caching = enable_prefix_caching
        self._groups = [
            BlockGroup(pool, index, window, block_size, drop_last_hit=drop_last_hit)
            for index, window in enumerate(windows)
        ]
        self._tables: dict[int, list[list[int]]] = {}
        self._published: dict[int, list[int]] = {}

    def attach(self, table: Table) -> None:
        """Prepare the table of a request that has just been added."""
        table.shared_limit = sys.maxsize

    def lookup(self, table: Table, known_tokens: int) -> tuple[GroupHits, int]:
        """Return the hit blocks of each group and how many tokens all groups hold."""
        empty: GroupHits = [[] for _ in self.windows]
        if not self.enable_prefix_caching:
            return empty, 0
        keys = self._keys(table)
        length = min((known_tokens - 1) // self.block_size, len(keys))
        hits = empty
        order = sorted(range(len(self.windows)), key=lambda group: self.windows[group] is not None)
        while True:
            before = length
            for group in order:
                if self.windows[group] is None and hits[group]:
                    length = min(length, len(hits[group]))
                else:
                    hits[group] = self._groups[group].find(keys, length)
                    length = len(hits[group])
            if length >= before or len(self.windows) <= 2:
                break
        for group in order:
            del hits[group][length:]
        return hits, length * self.block_size

    def admit(
        self,
        table: Table,
        hits: GroupHits,
        hit_tokens: int,
        tokens: int,
        room_for: int,
        publish: bool = True,
    ) -> bool:
        """Give a sequence without blocks its hits and its first tokens; see `PagedCache.admit`."""
        held_tokens = max(map(len, hits), default=0) * self.block_size
        room = max(tokens, room_for)
        needs = [
            group.count_needed(found, held_tokens, room)
            for group, found in zip(self._groups, hits, strict=True)
        ]
        if sum(needs) > self.pool.num_free:
            return False
        request_id = table.request.id
        tables = self._tables[request_id] = [[] for _ in self._groups]
        if hit_tokens:
            for index, group in enumerate(self._groups):
                tables[index] = group.hold(hits[index], hit_tokens)
            self._published[request_id] = [len(blocks) for blocks in tables]
        self._extend(tables, tokens)
        if publish:
            self.publish(table, tokens)
        return True

    def capacity_tokens(self, table: Table) -> int:
        """Return how many tokens a table holds without taking more blocks."""
        return min(map(len, self._tables[table.request.id])) * self.block_size

    def grow(self, table: Table, computed_tokens: int, tokens: int) -> bool:
        """Release what left the windows, then extend every group to `tokens` tokens; False if it cannot."""
        tables = self._tables[table.request.id]
        for group, blocks in zip(self._groups, tables, strict=True):
            group.release_outside(blocks, computed_tokens)
        need = sum(max(0, -(-tokens // self.block_size) - len(blocks)) for blocks in tables)
        if need > self.pool.num_free:
            return False
        return self._extend(tables, tokens)

    def publish(self, table: Table, tokens: int) -> None:
        """Enter the full blocks of the first `tokens` tokens into the cache, except null blocks."""
        if not self.enable_prefix_caching:
            return
        full = tokens // self.block_size
        keys = self._keys(table)
        request_id = table.request.id
        published = self._published.setdefault(request_id, [0] * len(self.windows))
        for index, blocks in enumerate(self._tables[request_id]):
            if published[index] < full:
                self._groups[index].publish(blocks, keys, range(published[index], full))
                published[index] = full

    def await_hit(self, table: Table, hits: GroupHits) -> None:
        """Watch for nothing in particular: any change may matter here."""
        self.pool.awaited_published = True

    def missed_stream(self, table: Table, hits: GroupHits) -> int | None:
        """Return the stream that ends the first block that no group hit, or None if there is none."""
        blocks = max(map(len, hits))
        return stream_at(token_segments(table.request), (blocks + 1) * self.block_size - 1)

    def release(self, table: Table) -> None:
        """Return all blocks, group by group, the last first."""
        request_id = table.request.id
        for group, blocks in zip(self._groups, self._tables.pop(request_id, ()), strict=False):
            group.release(blocks)
        self._published.pop(request_id, None)

    def evict_all(self, table: Table) -> None:
        """Return all blocks of a preempted sequence; its published ones stay hittable."""
        self.release(table)

    # -- what logs and checks ask for ------------------------------------------------------------------

    def block_ids(self, table: Table) -> list[list[int]] | list[int]:
        """Return a copy of the block tables: a list a group, or one list if there is one group."""
        tables = [list(blocks) for blocks in self._tables.get(table.request.id, [[] for _ in self.windows])]
        return tables if len(tables) > 1 else tables[0]

    def count_cached(self, tables: Iterable[Table]) -> int:
        """Return the number of distinct cached keys."""
        return self.pool.num_cached

    def common_prefix_blocks(self, table: Table, holders: int) -> int | list[int]:
        """Return per group how many leading blocks all `holders` tables reference; 0 for window groups."""
        counts = []
        for window, blocks in zip(self.windows, self._tables[table.request.id], strict=True):
            count = 0
            while (
                window is None
                and self.enable_prefix_caching
                and count < len(blocks)
                and self.pool.references[blocks[count]] == holders
            ):
                count += 1
            counts.append(count)
        return counts if len(counts) > 1 else counts[0]

    def check_integrity(self, tables: Iterable[Table]) -> None:
        """Check the pool against the tables. Raises IntegrityError."""
        self.pool.check_integrity(blocks for held in self._tables.values() for blocks in held)

    # -- inside ----------------------------------------------------------------------------------------

    def _extend(self, tables: list[list[int]], tokens: int) -> bool:
        for blocks in tables:
            need = -(-tokens // self.block_size) - len(blocks)
            if need > 0:
                blocks += self.pool.take(need)
        return True

    def _keys(self, table: Table) -> list[int]:
        if not table.keys:
            request = table.request
            full = (request.prompt_tokens + request.max_tokens) // self.block_size
            table.keys = block_keys(token_segments(request), self.block_size, full)
        return table.keys
