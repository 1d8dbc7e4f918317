"""A radix tree as the KV cache of any scheduler: the interface of `paged`, prefixes shared token for token.

What a request has computed of its prompt goes into the tree when it is published, its outputs when it is
released; it holds its path locked, and the pages behind it are its own. So runs SGLang's cache under
schedulers that are not SGLang's; the life cycle is SGLang's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from simserve.errors import IntegrityError
from simserve.kvcache.eviction import EvictionPolicy
from simserve.kvcache.prefix_keys import token_segments
from simserve.kvcache.radix import RadixCache
from simserve.kvcache.radix_node import RadixNode
from simserve.workload.request import Request, Segment


class Table(Protocol):
    """What a sequence keeps for the cache.

    Attributes:
        shared_limit: Not 0 if what it fills is to be published.
    """

    request: Request
    shared_limit: int


class _Holding:
    """What one request has: a locked path of the tree, and pages of its own behind it.

    Attributes:
        node, locked_tokens: The end of the path, and its depth.
        own_pages: Pages behind it.
        inserted: Tokens that it has put into the tree itself, or found there when it did.
        computed: Tokens whose KV may be published.
    """

    __slots__ = ("computed", "inserted", "locked_tokens", "node", "own_pages", "segments")

    def __init__(self, segments: list[Segment], node: RadixNode) -> None:
        self.segments = segments
        self.node = node
        self.locked_tokens = node.depth
        self.own_pages = 0
        self.inserted = 0
        self.computed = node.depth


class PagePool:
    """Pages of a radix cache, as a scheduler and the step log count them; one is never handed out.

    Args:
        num_blocks: Pages with that one.
        tree: What it holds unlocked is free.

    Attributes:
        unused_pages: Pages that hold nothing.
    """

    def __init__(self, num_blocks: int, tree: RadixCache) -> None:
        self.num_blocks = num_blocks
        self.unused_pages = num_blocks - 1
        self._tree = tree

    @property
    def num_free(self) -> int:
        """Pages that hold nothing, or what nobody has locked."""
        return self.unused_pages + self._tree.evictable_tokens // self._tree.page_size

    @property
    def num_free_cached(self) -> int:
        """Pages of the tree that nobody has locked."""
        return self._tree.evictable_tokens // self._tree.page_size

    def take(self, pages: int) -> None:
        """Take pages, evicting what is missing. Needs pages <= num_free."""
        missing = pages - self.unused_pages
        if missing > 0:
            self.unused_pages += self._tree.evict(missing * self._tree.page_size) // self._tree.page_size
        self.unused_pages -= pages


class RadixPages:
    """Pages over one radix tree; every method that takes a table changes what is held for it.

    Args:
        num_blocks: Pages, one of which is never handed out.
        page_size: Tokens per page.
        eviction: What goes first; LRU by default.
        enable_prefix_caching: Without it nothing is published.
    """

    # Whether as many free pages as a table grows by are enough for it to grow.
    free_suffices = True

    def __init__(
        self,
        num_blocks: int,
        page_size: int,
        eviction: EvictionPolicy | None = None,
        *,
        enable_prefix_caching: bool = True,
    ) -> None:
        self.tree = RadixCache(page_size, eviction, disable=not enable_prefix_caching)
        self.pool = PagePool(num_blocks, self.tree)
        # Whether it is to hear of the time.
        self.expires = eviction is not None and eviction.ttl_ns > 0
        self.block_size = page_size
        self._holdings: dict[int, _Holding] = {}
        # Of the request looked up last: who waits first in a queue is looked up again and again.
        self._looked_up: tuple[int, list[Segment]] = (-1, [])

    def expire(self, now_ns: int) -> None:
        """Drop what has outlived the eviction policy's time to live; times must not go back."""
        self.pool.unused_pages += self.tree.expire(now_ns) // self.block_size

    def expires_at(self) -> int | None:
        """Return the next time at which `expire` may drop something; None: never."""
        return self.tree.expires_at()

    def attach(self, table: Table) -> None:
        """Prepare the table of a request that has just been added."""
        table.shared_limit = 0 if self.tree.disable else 1

    def lookup(self, table: Table, known_tokens: int) -> tuple[None, int]:
        """Return the tokens of the longest cached prefix; at least one misses. Changes nothing."""
        return None, self.tree.peek(self._segments(table.request), known_tokens - 1)

    def _segments(self, request: Request) -> list[Segment]:
        if self._looked_up[0] != request.id:
            self._looked_up = request.id, token_segments(request)
        return self._looked_up[1]

    def admit(self, table: Table, hits: object, hit_tokens: int, tokens: int, room_for: int) -> bool:
        """Give a sequence its hits and pages up to `tokens` tokens, and publish them.

        Args:
            table: A sequence that holds nothing.
            hits: Ignored; the tokens of a hit say all.
            hit_tokens: What `lookup` has returned, or 0.
            tokens: Tokens to hold now.
            room_for: Tokens for which there must be room, now or later.

        Returns:
            False, and nothing has changed, if there is no room.
        """
        size = self.block_size
        segments = self._segments(table.request)
        found, idle = self.tree.measure_path(segments, hit_tokens)
        if -(-max(tokens, room_for) // size) - found // size > self.pool.num_free - idle // size:
            return False
        node, _ = self.tree.match(segments, hit_tokens)
        self.tree.lock(node)
        self._holdings[table.request.id] = _Holding(segments, node)
        self.grow(table, found, tokens)
        self.publish(table, tokens)
        return True

    def grow(self, table: Table, computed_tokens: int, tokens: int) -> bool:
        """Extend what is held to `tokens` tokens, or change nothing and return False."""
        holding = self._holdings[table.request.id]
        need = -(-tokens // self.block_size) - holding.locked_tokens // self.block_size - holding.own_pages
        if need <= 0:
            return True
        if need > self.pool.num_free:
            return False
        self.pool.take(need)
        holding.own_pages += need
        return True

    def capacity_tokens(self, table: Table) -> int:
        """Return how many tokens a table holds without taking more pages."""
        holding = self._holdings[table.request.id]
        return holding.locked_tokens + holding.own_pages * self.block_size

    def publish(self, table: Table, tokens: int) -> None:
        """Note that the first `tokens` tokens are computed, and put what is prompt of them into the tree."""
        holding = self._holdings[table.request.id]
        holding.computed = tokens
        if tokens <= table.request.prompt_tokens:
            self._enter(holding, tokens)

    def _enter(self, holding: _Holding, tokens: int) -> None:
        """Give the tree the pages of the first `tokens` tokens, and lock them; duplicates become unused."""
        tokens -= tokens % self.block_size
        held = holding.locked_tokens
        if tokens <= held or self.tree.disable:
            return
        node, present = self.tree.insert(holding.segments, tokens, inserted_tokens=holding.inserted)
        self.tree.unlock(holding.node)
        self.tree.lock(node)
        holding.node = node
        holding.locked_tokens = holding.inserted = tokens
        holding.own_pages -= (tokens - held) // self.block_size
        if present > held:
            self.pool.unused_pages += (present - held) // self.block_size

    def release(self, table: Table) -> None:
        """Publish the outputs, and give up pages and locks; what is in the tree stays until it is evicted."""
        holding = self._holdings.get(table.request.id)
        if holding is not None:
            self._enter(holding, holding.computed)
            self.evict_all(table)

    def evict_all(self, table: Table) -> None:
        """Give up what a preempted sequence holds; what it has published may be found again."""
        holding = self._holdings.pop(table.request.id, None)
        if holding is not None:
            self.pool.unused_pages += holding.own_pages
            self.tree.unlock(holding.node)

    def await_hit(self, table: Table, hits: object) -> None:
        """Nothing to await: outputs are published when a request ends, which is always noticed."""

    def missed_stream(self, table: Table, hits: object) -> int | None:
        """Return None: no running request publishes what another one waits for."""
        return None

    def check_integrity(self, tables: Iterable[Table]) -> None:
        """Check the tree and the pages against the tables that hold some.

        Raises:
            IntegrityError: If a page is lost or owned twice, or a lock is left.
        """
        self.tree.check_integrity()
        held = [self._holdings[table.request.id] for table in tables if table.request.id in self._holdings]
        if len(held) != len(self._holdings):
            raise IntegrityError("a request that holds no table holds pages")
        pages = sum(holding.own_pages for holding in held) + self.tree.total_tokens // self.block_size
        if pages + self.pool.unused_pages != self.pool.num_blocks - 1 or self.pool.unused_pages < 0:
            raise IntegrityError(
                f"{pages} pages held and {self.pool.unused_pages} unused of {self.pool.num_blocks - 1}"
            )
        if sum(child.locks for child in self.tree.root.children.values()) != sum(
            holding.node is not self.tree.root for holding in held
        ):
            raise IntegrityError("locks of the tree differ from the requests that hold a path")
