"""vLLM's KV-cache manager for one group of full-attention layers: block tables, prefix hits, publishing.

The leading blocks of a sequence that another request may share are tracked one by one, with id and hash; the
rest is private and only counted (see `block_pool`). Hits, evictions and their order are the same either way.
Rules 7 to 9 of vLLM 0.19.0's decision logs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Protocol

from simserve.kvcache.block_pool import BlockPool
from simserve.kvcache.prefix_keys import block_keys, stream_at, token_segments
from simserve.workload.request import Request

Hits = list[int]


class Table(Protocol):
    """What a sequence keeps for the cache; only the cache mutates it.

    Attributes:
        blocks: Ids of the leading blocks that are tracked, in token order.
        private: Blocks after those, which are only counted.
        shared_limit: How many leading blocks may be shared with another request.
        keys: Keys of the leading blocks, as far as they have been asked for.
        published: How many leading full blocks are in the cache.
    """

    request: Request
    blocks: list[int]
    private: int
    shared_limit: int
    keys: list[int]
    published: int


class PagedCache:
    """Block tables over one pool; every method that takes a sequence mutates its `Table` fields.

    Args:
        pool: The blocks.
        block_size: Tokens per block.
        enable_prefix_caching: Publish full blocks and look them up.
        drop_last_hit: EAGLE needs the hidden state of the last hit block again: one hit block fewer.
        track_all: Track every block, so that logs can show its id.
    """

    def __init__(
        self,
        pool: BlockPool,
        block_size: int,
        *,
        enable_prefix_caching: bool,
        drop_last_hit: bool = False,
        track_all: bool = False,
    ) -> None:
        self.pool = pool
        self.block_size = block_size
        self.enable_prefix_caching = enable_prefix_caching
        self._drop_last_hit = drop_last_hit
        self._track_all = track_all

    def attach(self, table: Table) -> None:
        """Prepare the table of a request that has just been added."""
        if self._track_all:
            table.shared_limit = sys.maxsize
        elif self.enable_prefix_caching:
            table.shared_limit = table.request.shared_tokens // self.block_size
        else:
            table.shared_limit = 0

    def lookup(self, table: Table, known_tokens: int) -> tuple[Hits, int]:
        """Return the hit blocks of a sequence and how many tokens they hold; at least one token misses."""
        limit = min((known_tokens - 1) // self.block_size, table.shared_limit)
        if limit <= 0 or not self.enable_prefix_caching:
            return [], 0
        keys = self._keys(table, limit)
        hits = self.pool.find(keys if len(keys) <= limit else keys[:limit])
        if self._drop_last_hit and hits:
            hits.pop()
        return hits, len(hits) * self.block_size

    def admit(self, table: Table, hits: Hits, hit_tokens: int, tokens: int, room_for: int) -> bool:
        """Give a sequence without blocks its hits and blocks up to `tokens` tokens, and publish what is full.

        Args:
            table: The sequence.
            hits, hit_tokens: What `lookup` returned.
            tokens: Tokens to hold now.
            room_for: Tokens for which there must be room, now or later (vLLM's gate on whole prompts).

        Returns:
            False, and nothing has changed, if there is no room.
        """
        pool = self.pool
        size = self.block_size
        need = -(-(tokens if tokens > room_for else room_for) // size) - len(hits)
        if need > pool.num_free:
            return False
        if not table.shared_limit:
            table.private = need = -(-tokens // size)
            pool.take_counted(need)
            if self.enable_prefix_caching:
                table.published = tokens // size
            return True
        if hits:
            if need + pool.count_idle(hits) > pool.num_free:
                return False
            pool.touch(hits)
            table.blocks = hits
            table.published = len(hits)
        self.grow(table, hit_tokens, tokens)
        self.publish(table, tokens)
        return True

    def grow(self, table: Table, computed_tokens: int, tokens: int) -> bool:
        """Extend the table to hold `tokens` tokens, or change nothing and return False."""
        blocks = table.blocks
        held = len(blocks) + table.private
        need = -(-tokens // self.block_size) - held
        if need <= 0:
            return True
        pool = self.pool
        if need > pool.num_free:
            return False
        tracked = min(need, table.shared_limit - held)
        if tracked > 0:
            taken = pool.take(tracked)
            pool.own(taken)
            blocks += taken
            need -= tracked
        if need:
            pool.take_counted(need)
            table.private += need
        return True

    def publish(self, table: Table, tokens: int) -> None:
        """Enter the full blocks of the first `tokens` tokens into the cache."""
        full = tokens // self.block_size
        begin = table.published
        if full <= begin or not self.enable_prefix_caching:
            return
        table.published = full
        end = min(full, table.shared_limit)
        if begin < end:
            self.pool.publish(table.blocks[begin:end], self._keys(table, end)[begin:end])

    def release(self, table: Table) -> None:
        """Return all blocks, the last first. They stay hittable until they are taken again."""
        if table.private:
            hashed = min(max(0, table.published - len(table.blocks)), table.private)
            self.pool.release_counted(table.private, hashed)
            table.private = 0
        if table.blocks:
            self.pool.release(reversed(table.blocks))
            table.blocks = []
        table.published = 0

    def evict_all(self, table: Table) -> None:
        """Return all blocks of a preempted sequence, which may find its own published blocks again.

        Its private blocks become shareable (with itself, later), so they are tracked one by one from now on.
        """
        if self.enable_prefix_caching and table.shared_limit < sys.maxsize:
            tracked = len(table.blocks)
            table.shared_limit = sys.maxsize
            table.keys = []
            named = self.pool.name_counted(table.private)
            self.pool.own(named)
            table.blocks += named
            table.private = 0
            published = min(table.published, len(table.blocks))
            if published > tracked:
                keys = self._keys(table, published)
                self.pool.publish(table.blocks[tracked:published], keys[tracked:published])
        self.release(table)

    def await_hit(self, table: Table, hits: Hits) -> None:
        """Watch for the key of the first block that was not hit (`pool.awaited_published`)."""
        missed = len(hits)
        keys = table.keys
        self.pool.awaited_key = keys[missed] if missed < len(keys) else -1
        self.pool.awaited_published = False

    def missed_stream(self, table: Table, hits: Hits) -> int | None:
        """Return the stream that ends the first block that was not hit, or None if it has no such block."""
        if len(hits) >= table.shared_limit:
            return None
        return stream_at(token_segments(table.request), (len(hits) + 1) * self.block_size - 1)

    # -- what logs and checks ask for ------------------------------------------------------------------

    def block_ids(self, table: Table) -> list[int]:
        """Return a copy of the tracked part of the block table."""
        return list(table.blocks)

    def count_cached(self, tables: Iterable[Table]) -> int:
        """Return the number of distinct cached keys, given the tables that hold blocks."""
        counted = sum(min(max(0, t.published - len(t.blocks)), t.private) for t in tables)
        return self.pool.num_cached + counted

    def common_prefix_blocks(self, table: Table, holders: int) -> int | list[int]:
        """Return how many leading blocks of a table are referenced by all `holders` tables."""
        if not self.enable_prefix_caching:
            return 0
        if holders == 1:
            return len(table.blocks) + table.private
        count = 0
        for block in table.blocks:
            if self.pool.references[block] != holders:
                break
            count += 1
        return count

    def check_integrity(self, tables: Iterable[Table]) -> None:
        """Check the pool against the tables that hold blocks. Raises IntegrityError."""
        held = list(tables)
        self.pool.check_integrity([table.blocks for table in held], sum(table.private for table in held))

    def _keys(self, table: Table, blocks: int) -> list[int]:
        if len(table.keys) < blocks:
            request = table.request
            ends = (request.prompt_tokens + request.max_tokens) // self.block_size
            table.keys = block_keys(token_segments(request), self.block_size, min(ends, table.shared_limit))
        return table.keys
