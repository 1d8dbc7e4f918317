"""The KV pool as SGLang's scheduler counts it: free tokens, the radix tree, and what each row owns.

A row owns the tokens [protected, committed), in whole pages; [0, protected) belongs to the tree and is locked
by the row. Nothing here knows which slot holds which token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from simserve.errors import IntegrityError, SimulationError
from simserve.kvcache.eviction import build_eviction
from simserve.kvcache.radix import RadixCache
from simserve.kvcache.tier import TierCounts
from simserve.scheduler.batch import Batch
from simserve.scheduler.kv_connector import KVConnector
from simserve.scheduler.sglang.config import SglangConfig
from simserve.scheduler.sglang.row import Row

# A node's priority never exceeds that of SGLang's tensors.
_MOST_PRIORITY = (1 << 63) - 1


class TokenPool:
    """Free tokens and the tree; the scheduler alone mutates it.

    `tiered_memory.TieredPool` overrides what is different with memory behind the device's.

    Attributes:
        free: Tokens that nobody holds.
        evicted: Tokens evicted since the scheduler last set this to 0.
        num_blocks: Pages, and the one that pads batches.
        connector: Times what moves between tiers; None without.
    """

    connector: KVConnector | None = None

    def __init__(self, config: SglangConfig) -> None:
        self.page_size = config.page_size
        pages = config.pool_tokens // config.page_size
        self.size = pages * config.page_size
        self.num_blocks = pages + 1
        self.free = self.size
        self.evicted = 0
        self.tree = self._build_tree(config)

    def _build_tree(self, config: SglangConfig) -> RadixCache:
        return RadixCache(
            config.page_size,
            build_eviction(config.radix_eviction_policy, config.radix_eviction_options),
            disable=config.disable_radix_cache,
        )

    # -- how much there is ----------------------------------------------------------------------------------

    @property
    def available(self) -> int:
        """Tokens that are free or can be evicted."""
        return self.free + self.tree.evictable_tokens

    @property
    def num_free(self) -> int:
        """Pages that no request holds, as the step log counts them."""
        return (self.free + self.tree.evictable_tokens) // self.page_size

    @property
    def num_free_cached(self) -> int:
        """Pages of the tree that no request holds."""
        return self.tree.evictable_tokens // self.page_size

    @property
    def used_pages(self) -> int:
        """Pages that requests hold."""
        return (self.size - self.free - self.tree.evictable_tokens) // self.page_size

    def whole_pages(self, tokens: int) -> int:
        """Return the tokens of the pages that hold `tokens` tokens."""
        return -(-tokens // self.page_size) * self.page_size

    def make_room(self, tokens: int) -> bool:
        """Evict until so many tokens are free, or nothing is left to evict; return whether they are."""
        short = tokens - self.free
        if short > 0 and self.tree.evictable_tokens:
            evicted = self.tree.evict(short)
            self.free += evicted
            self.evicted += evicted
        return self.free >= tokens

    @property
    def tier_counts(self) -> Mapping[str, TierCounts] | None:
        """What each tier was asked and has moved; None without."""
        return None

    @property
    def moves_something(self) -> bool:
        """Whether the next pass or batch has to begin a move between tiers, or to try a row again."""
        return False

    @property
    def awaits_time(self) -> bool:
        """Whether time alone changes what is held: something expires, or lands."""
        return self.tree.expires_at() is not None

    def steady_tokens(self, rows: int) -> int:
        """Return the tokens that decode passes of so many rows can take with nothing to be seen."""
        return self.available

    # -- a pass -------------------------------------------------------------------------------------------

    def begin_pass(self, rows: Mapping[int, Row], now_ns: int) -> None:
        """Take note of what has landed; `rows` are all requests by id."""

    def end_pass(self, batch: Batch | None) -> None:
        """Note what a pass has decided."""

    def next_event(self, now_ns: int) -> int | None:
        """Return when something lands that a pass takes note of; None: nothing is under way."""
        return None

    # -- a row's life ---------------------------------------------------------------------------------------

    def find(self, row: Row, tokens: int) -> int:
        """Match the first `tokens` tokens of a row; note and return how many of them stand in the tree."""
        row.node, row.prefix = self.tree.match(row.key, tokens)
        row.matched = min(row.prefix, row.known - 1)
        return row.prefix

    def look_up(self, row: Row) -> bool:
        """Match a waiting row that is to be tried now; False if it has to wait for what is read for it."""
        self.find(row, row.known - 1)
        return True

    def load_back(self, row: Row) -> bool:
        """Put what the host has of a row on the device; whether its prefix reaches to the end of it now."""
        return False

    def await_turn(self, row: Row) -> None:
        """Note that a row has entered the queue."""

    def forget(self, row: Row) -> None:
        """Note that a request has gone."""

    def hold(self, row: Row) -> None:
        """Lock the prefix that the row has found."""
        row.locked = row.node
        row.protected = row.prefix
        self.tree.lock(row.node)

    def take_prefill(self, rows: Sequence[tuple[Row, int]]) -> None:
        """Take the places of a prefill batch: (row, tokens) each, from the row's prefix on.

        Raises:
            SimulationError: If there are too few, which ends the real server.
        """
        page = self.page_size
        tokens = sum(count for _, count in rows)
        self.make_room(tokens if page == 1 else tokens + len(rows) * page)
        needed = 0
        for row, count in rows:
            end = row.prefix + count
            needed += self.whole_pages(end) - self.whole_pages(row.prefix)
            row.committed = end
        if self.free < needed:
            raise self._out_of_memory("Out of memory" if page == 1 else "Prefill out of memory", tokens)
        self.free -= needed

    def take_decode(self, rows: int, pages: int) -> None:
        """Take a token each for `rows` rows, of which `pages` need a new page. `make_room` has succeeded.

        In pages SGLang evicts as if every row needed one.
        """
        self.make_room(rows * self.page_size)
        self.free -= pages * self.page_size

    def checkpoint(self, row: Row, tokens: int) -> None:
        """Give the first `tokens` tokens of a row (whole pages of them) to the tree, and lock them there."""
        tree = self.tree
        if tree.disable:
            return
        tokens = min(tokens, row.known)
        tokens -= tokens % self.page_size
        if tokens <= 0:
            return
        priority = row.priority or 0
        node, cached = tree.insert(row.key, tokens, priority, row.inserted)
        prompt = row.request.prompt_tokens
        prompt -= prompt % self.page_size
        row.inserted = max(row.inserted, tokens)
        if 0 < prompt < tokens:
            # Splits the leaf there, so that outputs can go before the prompt.
            tree.insert(row.key, prompt, min(priority + 1, _MOST_PRIORITY), prompt)
        # What another row has entered meanwhile is held twice: the own copy goes.
        self.free += cached - row.protected
        if row.locked is not None:
            tree.unlock(row.locked)
        tree.lock(node)
        row.locked = row.node = node
        row.protected = tokens

    def release(self, row: Row, tokens: int, *, publish: bool) -> None:
        """Give back the first `tokens` tokens of a row that ends, is retracted or aborted.

        Args:
            row: Loses all it holds.
            tokens: What it holds; the rest was given back before.
            publish: Let the tree keep what it can.
        """
        if publish:
            self.checkpoint(row, tokens)
        self.free += self.whole_pages(row.committed) - row.protected
        if row.locked is not None:
            self.tree.unlock(row.locked)
        row.locked = None
        row.protected = row.prefix = row.matched = row.inserted = row.committed = 0
        row.node = self.tree.root

    # -- checks ---------------------------------------------------------------------------------------------

    def check_integrity(self, rows: Sequence[Row], held: Sequence[int]) -> None:
        """Check the tree, and that free, cached and owned tokens add up to the pool.

        Args:
            rows: Those that hold something.
            held: Tokens with a place in the pool, a row.
        """
        self.tree.check_integrity()
        owned = 0
        for row, tokens in zip(rows, held, strict=True):
            if row.protected > self.whole_pages(tokens):
                raise IntegrityError(f"{row} has given {row.protected} of its {tokens} tokens to the tree")
            owned += self.whole_pages(tokens) - row.protected
        total = self.free + self.tree.total_tokens + owned
        if total != self.size:
            raise IntegrityError(
                f"{self.free} free, {self.tree.total_tokens} cached and {owned} owned tokens make {total}, "
                f"not {self.size}"
            )

    def _out_of_memory(self, what: str, tokens: int) -> SimulationError:
        free, evictable = self.free, self.tree.evictable_tokens
        return SimulationError(
            "SGLang's server would die here, since a continuing chunk is never refused; raise "
            f"schedule_conservativeness or lower max_running_requests. Its words: {what}. Try to lower your "
            f"batch size. / Try to allocate {tokens} tokens. / Available full tokens: {free + evictable} "
            f"(full_available_size={free} + full_evictable_size_={evictable})"
        )
