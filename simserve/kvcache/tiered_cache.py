"""A GPU's KV cache with tiers behind it, as one cache: what a lookup misses on the GPU may lie in a tier.

Wraps `paged.PagedCache` or `radix_pages.RadixPages`. A prompt's chunks go to the tiers when they are
computed, those of its outputs when it leaves the GPU. What is fetched counts as computed; the bytes that
move are collected for the engine to price.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from simserve.kvcache.chunk_keys import ChunkKeys
from simserve.kvcache.prefix_keys import block_keys
from simserve.kvcache.radix_node import RadixNode, path_segments
from simserve.kvcache.radix_pages import RadixPages
from simserve.kvcache.tier import TierCounts
from simserve.kvcache.tier_moves import Move
from simserve.kvcache.tiers import Stretch, TierStack, Traffic
from simserve.workload.request import Request

# (history, tokens) -> seconds of a prefill of so many tokens behind so many.
RecomputeTime = Callable[[int, int], float]


class Table(Protocol):
    """What a sequence shows the cache, beside what the cache on the GPU keeps with it."""

    request: Request
    computed: int
    shared_limit: int


class TieredHits(NamedTuple):
    """What a lookup found on the GPU, and in the tiers behind it.

    Attributes:
        on_gpu, gpu_tokens: The GPU cache's own answer.
        keys, skip: Chunks that were looked for, and how many of them the GPU has.
        found, chosen: Where the others lie, and what of it is worth fetching.
    """

    on_gpu: Any
    gpu_tokens: int
    keys: list[int]
    skip: int
    found: list[Stretch]
    chosen: list[Stretch]


class TieredCache:
    """The interface of `paged.PagedCache`, over a cache on the GPU and a stack of tiers.

    Args:
        cache: The cache on the GPU.
        stack: The tiers.
        recompute_s: Fetch only what is not sooner computed; None: fetch all that is found.
        prefetch: Bring a request's chunks into the first tier as soon as the request comes.
        layers: Pieces in which what is fetched comes in, see `TierStack.choose_fetch`.
    """

    def __init__(
        self,
        cache: Any,
        stack: TierStack,
        recompute_s: RecomputeTime | None = None,
        *,
        prefetch: bool = False,
        layers: int = 1,
    ) -> None:
        self.gpu = cache
        self.stack = stack
        self.pool = cache.pool
        self.block_size: int = cache.block_size
        self.free_suffices: bool = cache.free_suffices
        # Whether taking blocks can move something: what goes for them is written back.
        self.writes_back = bool(stack.tiers) and stack.tiers[0].spec.write == "back"
        self.prefetches = prefetch
        self._recompute_s = recompute_s
        self._layers = layers
        # What else is on the paths, for estimates; None: nothing.
        self.traffic: Traffic | None = None
        # What has begun to move.
        self._moves: list[Move] = []
        # Of the requests on the GPU.
        self._chunks = ChunkKeys(stack.chunk_tokens)
        if isinstance(cache, RadixPages):
            cache.tree.on_evict = self._drop

    @property
    def tier_counts(self) -> Mapping[str, TierCounts]:
        """What each tier was asked and has moved, by its name."""
        return self.stack.counts

    def take_moves(self) -> list[Move]:
        """Return what has begun to move since the last call."""
        moves, self._moves = self._moves, []
        return moves

    @property
    def has_moves(self) -> bool:
        """Whether anything has begun to move since the last call of `take_moves`."""
        return bool(self._moves)

    @property
    def expires(self) -> bool:
        """Whether the GPU's cache is to hear of the time."""
        return bool(getattr(self.gpu, "expires", False))

    def expire(self, now_ns: int) -> None:
        """Let the GPU's cache drop what is too old."""
        self.gpu.expire(now_ns)

    def expires_at(self) -> int | None:
        """Return when the GPU's cache may drop something as too old; None: never."""
        at: int | None = self.gpu.expires_at()
        return at

    # -- requests -----------------------------------------------------------------------------------------

    def attach(self, table: Table) -> None:
        """Prepare the table of a request that has just been added."""
        self.gpu.attach(table)

    def prefetch(self, table: Table) -> None:
        """Bring what lower tiers hold of a request that has just come into the first tier."""
        request = table.request
        if request.shared_tokens:
            _, found = self.gpu.lookup(table, request.prompt_tokens)
            keys = self._lookup_keys(request, request.prompt_tokens)
            self._moves += self.stack.prefetch(keys, found // self.stack.chunk_tokens)

    def lookup(self, table: Table, known_tokens: int) -> tuple[TieredHits, int]:
        """Return what GPU and tiers hold of a sequence, and up to where it counts as computed."""
        on_gpu, gpu_tokens = self.gpu.lookup(table, known_tokens)
        chunk = self.stack.chunk_tokens
        keys = self._lookup_keys(table.request, known_tokens)
        skip = gpu_tokens // chunk
        found = self.stack.find(keys, skip)
        chosen = found
        if found and self._recompute_s is not None:
            chosen = self.stack.choose_fetch(
                found, known_tokens, self._recompute_s, keys, self.traffic, self._layers
            )
        end = chosen[-1].end * chunk if chosen else 0
        return TieredHits(on_gpu, gpu_tokens, keys, skip, found, chosen), max(gpu_tokens, end)

    def admit(self, table: Table, hits: Any, hit_tokens: int, tokens: int, room_for: int) -> bool:
        """Give a sequence its hits, blocks up to `tokens` tokens, and what is fetched; see `PagedCache`."""
        if not isinstance(hits, TieredHits):  # a sequence that comes back from the host brings its own
            return bool(self.gpu.admit(table, hits, hit_tokens, tokens, room_for))
        if not self.gpu.admit(table, hits.on_gpu, hits.gpu_tokens, tokens, room_for):
            return False
        self._chunks.keep(table.request)
        self._moves += self.stack.fetch(hits.keys, hits.found, hits.chosen, hits.skip)
        return True

    def grow(self, table: Table, computed_tokens: int, tokens: int) -> bool:
        """Extend the table to hold `tokens` tokens, or change nothing and return False."""
        return bool(self.gpu.grow(table, computed_tokens, tokens))

    def capacity_tokens(self, table: Table) -> int:
        """Return how many tokens a table holds without taking more blocks."""
        return int(self.gpu.capacity_tokens(table))

    def publish(self, table: Table, tokens: int) -> None:
        """Enter the first `tokens` tokens into the cache; those of a prompt into the tiers too."""
        self.gpu.publish(table, tokens)
        if tokens <= table.request.prompt_tokens:
            self._store(table, tokens)

    def release(self, table: Table) -> None:
        """Store what the tiers do not know yet, and give up the table."""
        self._store(table, table.computed)
        self.gpu.release(table)
        self._chunks.forget(table.request)

    def evict_all(self, table: Table) -> None:
        """Give up the table of a preempted sequence."""
        self.gpu.evict_all(table)
        self._chunks.forget(table.request)

    def await_hit(self, table: Table, hits: TieredHits) -> None:
        """Watch for what would be hit next on the GPU."""
        self.gpu.await_hit(table, hits.on_gpu)

    def missed_stream(self, table: Table, hits: TieredHits) -> int | None:
        """Return whose outputs could become hits of a sequence next."""
        stream: int | None = self.gpu.missed_stream(table, hits.on_gpu)
        return stream

    def check_integrity(self, tables: Iterable[Table]) -> None:
        """Check the GPU's cache and the tiers. Raises IntegrityError."""
        self.gpu.check_integrity(tables)
        self.stack.check_integrity()

    # -- chunks -------------------------------------------------------------------------------------------

    def _lookup_keys(self, request: Request, known_tokens: int) -> list[int]:
        """Return the chunks that may be found: another request may have them, and one token always misses."""
        tokens = min(known_tokens - 1, request.shared_tokens)
        return self._chunks.of(request)[: tokens // self.stack.chunk_tokens]

    def _store(self, table: Table, tokens: int) -> None:
        keys = self._chunks.offer(table.request, tokens)
        if keys:
            self._moves += self.stack.publish(keys)

    def _drop(self, node: RadixNode) -> None:
        """Let the tiers take over what the GPU's tree drops."""
        chunk = self.stack.chunk_tokens
        keys = block_keys(path_segments(node), chunk, node.depth // chunk)
        self._moves += self.stack.drop(keys[(node.depth - node.length) // chunk :])
