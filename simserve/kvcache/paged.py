"""vLLM's KV-cache manager for one group of full-attention layers: block tables, prefix hits, publishing.

Tables are runs of blocks (see `run_pool`): the leading blocks that another request may share have keys, the
rest is only counted. Hits, evictions and their order are those of vLLM block for block. Rules 7 to 9 of
vLLM 0.19.0's decision logs; `grouped` does the same by block ids, for logs and for models with windows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from simserve.kvcache.pool import UNKEYED
from simserve.kvcache.prefix_keys import Span, key_spans, stream_at, token_segments
from simserve.kvcache.run import Hits, Run, Table
from simserve.kvcache.run_pool import RunPool


class PagedCache:
    """Block tables over one pool; every method that takes a sequence mutates its `Table` fields.

    Args:
        pool: The blocks.
        enable_prefix_caching: Publish full blocks and look them up.
        drop_last_hit: EAGLE needs the hidden state of the last hit block again: one hit block fewer.
    """

    # Whether as many free blocks as a table grows by are enough for it to grow.
    free_suffices = True

    def __init__(self, pool: RunPool, *, enable_prefix_caching: bool, drop_last_hit: bool = False) -> None:
        self.pool = pool
        self.block_size = pool.block_size
        self.enable_prefix_caching = enable_prefix_caching
        self._drop_last_hit = drop_last_hit

    def attach(self, table: Table) -> None:
        """Prepare the table of a request that has just been added."""
        if self.enable_prefix_caching:
            table.shared_limit = table.request.shared_tokens // self.block_size

    def lookup(self, table: Table, known_tokens: int) -> tuple[Hits, int]:
        """Return the hit blocks of a sequence and how many tokens they hold; at least one token misses."""
        size = self.block_size
        limit = min((known_tokens - 1) // size, table.shared_limit)
        runs: list[Run] = []
        sizes: list[int] = []
        blocks = 0
        if limit > 0 and self.enable_prefix_caching:
            get = self.pool.get
            for origin, end in self._spans(table):
                if end > limit:
                    end = limit
                while blocks < end:
                    run = get(origin + (blocks + 1) * size)
                    if run is None:
                        break
                    runs.append(run)
                    # A run may go on where this sequence branches off.
                    sizes.append(run.size if run.size < end - blocks else end - blocks)
                    blocks += sizes[-1]
                if blocks < end or end == limit:
                    break
            if self._drop_last_hit and blocks:
                blocks -= 1
                sizes[-1] -= 1
                if not sizes[-1]:
                    runs.pop()
                    sizes.pop()
        return Hits(runs, sizes, blocks), blocks * size

    def admit(
        self,
        table: Table,
        hits: Hits,
        hit_tokens: int,
        tokens: int,
        room_for: int,
        publish: bool = True,
    ) -> bool:
        """Give a sequence without blocks its hits and blocks up to `tokens` tokens, and publish what is full.

        Args:
            table: The sequence.
            hits, hit_tokens: What `lookup` returned.
            tokens: Tokens to hold now.
            room_for: Tokens for which there must be room, now or later (vLLM's gate on whole prompts).
            publish: Whether the blocks hold their tokens with this step; else they come later.

        Returns:
            False, and nothing has changed, if there is no room.
        """
        pool = self.pool
        size = self.block_size
        runs, sizes, blocks = hits
        need = -(-(tokens if tokens > room_for else room_for) // size) - blocks
        if need > pool.num_free:
            return False
        if blocks:
            if need + pool.count_idle(runs, sizes) > pool.num_free:
                return False
            pool.hold(runs, sizes)
            table.runs = runs
            table.sizes = sizes
            table.tracked = table.published = blocks
        table.private = need = -(-tokens // size) - blocks
        pool.take(need)
        if publish:
            self.publish(table, tokens)
        return True

    def grow(self, table: Table, computed_tokens: int, tokens: int) -> bool:
        """Extend the table to hold `tokens` tokens, or change nothing and return False."""
        need = -(-tokens // self.block_size) - table.tracked - table.private
        if need <= 0:
            return True
        if need > self.pool.num_free:
            return False
        self.pool.take(need)
        table.private += need
        return True

    def capacity_tokens(self, table: Table) -> int:
        """Return how many tokens a table holds without taking more blocks."""
        return (table.tracked + table.private) * self.block_size

    def publish(self, table: Table, tokens: int) -> None:
        """Enter the full blocks of the first `tokens` tokens into the cache."""
        full = tokens // self.block_size
        if full <= table.published or not self.enable_prefix_caching:
            return
        table.published = full
        end = table.shared_limit
        if full < end:
            end = full
        if table.tracked < end:
            self._track(table, end)

    def _track(self, table: Table, end: int) -> None:
        """Give the counted blocks before block `end` their keys."""
        size = self.block_size
        begin = table.tracked
        if not begin:
            table.runs = []
            table.sizes = []
        table.private -= end - begin
        table.tracked = end
        for origin, span_end in self._spans(table):
            if span_end > begin:
                stop = end if end < span_end else span_end
                self.pool.publish(table.runs, table.sizes, origin + (begin + 1) * size, stop - begin)
                begin = stop
                if begin == end:
                    return

    def release(self, table: Table) -> None:
        """Return all blocks, the last first. They stay hittable until they are taken again."""
        if table.private:
            hashed = min(max(0, table.published - table.tracked), table.private)
            self.pool.release_unkeyed(table.private, hashed)
            table.private = 0
        if table.tracked:
            self.pool.release(table.runs, table.sizes)
            table.runs = []
            table.sizes = []
            table.tracked = 0
        table.published = 0

    def evict_all(self, table: Table) -> None:
        """Return all blocks of a preempted sequence, which may find its own published blocks again.

        Its private blocks become shareable (with itself, later).
        """
        if self.enable_prefix_caching and table.shared_limit < sys.maxsize:
            table.shared_limit = sys.maxsize
            published = min(table.published, table.tracked + table.private)
            if published > table.tracked:
                self._track(table, published)
        self.release(table)

    def await_hit(self, table: Table, hits: Hits) -> None:
        """Watch for the key of the first block that was not hit (`pool.awaited_published`)."""
        pool = self.pool
        pool.awaited_published = False
        pool.awaited_key = UNKEYED
        if hits.blocks < table.shared_limit:
            for origin, end in self._spans(table):
                if hits.blocks < end:
                    pool.awaited_key = origin + (hits.blocks + 1) * self.block_size
                    return

    def missed_stream(self, table: Table, hits: Hits) -> int | None:
        """Return the stream that ends the first block that was not hit, or None if it has no such block."""
        if hits.blocks >= table.shared_limit:
            return None
        return stream_at(token_segments(table.request), (hits.blocks + 1) * self.block_size - 1)

    # -- what logs and checks ask for ------------------------------------------------------------------

    def count_cached(self, tables: Iterable[Table]) -> int:
        """Return the number of distinct cached keys, given the tables that hold blocks."""
        counted = sum(min(max(0, t.published - t.tracked), t.private) for t in tables)
        return self.pool.num_cached + counted

    def common_prefix_blocks(self, table: Table, holders: int) -> int | list[int]:
        """Return how many leading blocks of a table are referenced by all `holders` tables."""
        if not self.enable_prefix_caching:
            return 0
        if holders == 1:
            return table.tracked + table.private
        count = 0
        for run in table.runs:
            if run.references != holders:
                break
            count += run.size
        return count

    def check_integrity(self, tables: Iterable[Table]) -> None:
        """Check the pool against the tables that hold blocks. Raises IntegrityError."""
        held = list(tables)
        self.pool.check_integrity([(t.runs, t.sizes) for t in held], sum(t.private for t in held))

    def _spans(self, table: Table) -> list[Span]:
        spans = table.key_spans
        if spans is None:
            spans = table.key_spans = key_spans(token_segments(table.request), self.block_size)
        return spans
