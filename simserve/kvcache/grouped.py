"""vLLM's KV-cache manager by block ids: one block table a KV group, one free queue.

Groups take from the queue in their order; keys are (group, chain of tokens). A window group releases the
blocks wholly outside its window and leaves the null block 0 in their place. Rule 16 of vLLM 0.19.0's logs.
It serves models with windows, and decision logs of any model; `paged` does the same for one group of
full-attention layers, faster.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Protocol

from simserve.kvcache.block_pool import BlockPool
from simserve.kvcache.prefix_keys import block_keys, stream_at, token_segments
from simserve.workload.request import Request

NULL_BLOCK = 0
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
        self._drop_last_hit = drop_last_hit
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
                    hits[group] = self._find(group, keys, length)
                    length = len(hits[group])
            if length >= before or len(self.windows) <= 2:
                break
        for group in order:
            del hits[group][length:]
        return hits, length * self.block_size

    def _fits(self, table: Table, hits: GroupHits, tokens: int) -> bool:
        """Return whether `tokens` tokens of a sequence would fit beside its hits in every group."""
        hit_tokens = max(map(len, hits), default=0) * self.block_size
        need = sum(
            self._count_needed(table, group, hits[group], hit_tokens, tokens)
            for group in range(len(self.windows))
        )
        return need <= self.pool.num_free

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
        if not self._fits(table, hits, max(tokens, room_for)):
            return False
        request_id = table.request.id
        if hit_tokens:
            self._published[request_id] = [0] * len(self.windows)
        tables = self._tables[request_id] = [[] for _ in self.windows]
        for group, group_hits in enumerate(hits):
            if not hit_tokens:
                break
            skip = self._skipped_blocks(group, hit_tokens)
            kept = group_hits[skip:]
            self.pool.touch(block for block in kept if block != NULL_BLOCK)
            tables[group] = [NULL_BLOCK] * skip + kept
            self._published[request_id][group] = len(tables[group])
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
        for group, blocks in enumerate(tables):
            self._release_outside(group, blocks, computed_tokens)
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
        for group, blocks in enumerate(self._tables[request_id]):
            fresh = [i for i in range(published[group], full) if blocks[i] != NULL_BLOCK]
            self.pool.publish([blocks[i] for i in fresh], [_group_key(group, keys[i]) for i in fresh])
            published[group] = max(published[group], full)

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
        for blocks in self._tables.pop(request_id, []):
            self.pool.release(block for block in reversed(blocks) if block != NULL_BLOCK)
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

    def _find(self, group: int, keys: list[int], length: int) -> list[int]:
        get = self.pool.get
        window = self.windows[group]
        hits: list[int] = []
        if window is None:
            for key in keys[:length]:
                block = get(_group_key(group, key))
                if block is None:
                    break
                hits.append(block)
        else:
            run_needed = -(-(window - 1) // self.block_size) + self._drop_last_hit
            hits = [NULL_BLOCK] * length
            run = 0
            for i in range(length - 1, -1, -1):
                block = get(_group_key(group, keys[i]))
                if block is None:
                    run = 0
                    continue
                hits[i] = block
                run += 1
                if run >= run_needed:
                    del hits[i + run :]
                    break
            else:
                del hits[run:]
        if self._drop_last_hit and hits:
            hits.pop()
        return hits

    def _count_needed(self, table: Table, group: int, hits: list[int], hit_tokens: int, tokens: int) -> int:
        skip = self._skipped_blocks(group, hit_tokens)
        fresh = max(-(-tokens // self.block_size) - max(skip, len(hits)), 0)
        return fresh + self.pool.count_idle(block for block in hits[skip:] if block != NULL_BLOCK)

    def _skipped_blocks(self, group: int, computed_tokens: int) -> int:
        window = self.windows[group]
        return 0 if window is None else max(0, computed_tokens - window + 1) // self.block_size

    def _release_outside(self, group: int, blocks: list[int], computed_tokens: int) -> None:
        outside = []
        for i in range(min(self._skipped_blocks(group, computed_tokens), len(blocks)) - 1, -1, -1):
            if blocks[i] == NULL_BLOCK:
                break
            outside.append(blocks[i])
            blocks[i] = NULL_BLOCK
        self.pool.release(outside)

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


def _group_key(group: int, key: int) -> int:
    return key + (group << 64)
