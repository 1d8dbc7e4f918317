"""Sequences sharded over ranks block by block: each rank has a pool of its own, and counts may differ.

The alternative to vLLM's decode context parallelism, which gives every rank a page whenever it gives one to
any (there a block of the table is a page on each rank). Here a sequence's blocks go round the ranks one by
one, as in Bhatia et al., "Helix Parallelism", 2025, and its last round may be incomplete. `placement` says at
which rank a sequence begins:

- `aligned`: at the first: all incomplete rounds burden the same ranks.
- `rotate`: at the rank of its id, modulo the ranks.
- `least_used`: at the rank with the most free blocks.
"""

from __future__ import annotations

from collections.abc import Iterable

from simserve.errors import InputError, IntegrityError, nearest
from simserve.kvcache.pool import KVPool
from simserve.kvcache.run import Hits, Table
from simserve.kvcache.shard_log import ShardLog
from simserve.kvcache.unshared import Holder, UnsharedCache

PLACEMENTS = ("aligned", "rotate", "least_used")


class ShardedCache(UnsharedCache):
    """Block counts on every rank, with the interface of `PagedCache`. Prefixes are not shared.

    Args:
        ranks: Ranks that share each sequence.
        blocks_per_rank: Blocks of each.
        block_size: Tokens of a block.
        placement: Where a sequence begins: see PLACEMENTS.

    Attributes:
        pool: The blocks of all ranks.
        free: Free blocks of each rank.
        shards: How evenly the blocks lay.
        free_suffices: False: a free block on another rank is of no use.

    Raises:
        InputError: For an unknown placement.
    """

    def __init__(self, ranks: int, blocks_per_rank: int, block_size: int, placement: str = "aligned") -> None:
        if placement not in PLACEMENTS:
            raise InputError(f"unknown KV placement {placement!r}{nearest(placement, PLACEMENTS)}")
        self.ranks = ranks
        self.block_size = block_size
        self.pool = KVPool(ranks * blocks_per_rank + 1)
        self.free = [blocks_per_rank] * ranks
        self.shards = ShardLog(ranks, blocks_per_rank)
        self._placement = placement
        # By request: the rank of its first block, and its blocks.
        self._starts: dict[int, int] = {}
        self._blocks: dict[int, int] = {}
        # Who was refused since the memory last changed.
        self._refused: set[int] = set()

    # -- what a scheduler asks for ------------------------------------------------------------------------

    def admit(self, table: Table, hits: Hits, hit_tokens: int, tokens: int, room_for: int) -> bool:
        """Give a sequence without blocks those for `tokens` tokens, if there is room for `room_for`.

        Returns:
            False, and nothing has changed, if a rank lacks blocks.
        """
        request_id = table.request.id
        start = self._choose_start(request_id)
        need = -(-max(tokens, room_for) // self.block_size)
        if not self._fits(start, need):
            self._note_refusal(request_id, need)
            return False
        self._starts[request_id] = start
        self._blocks[request_id] = 0
        self._take(request_id, -(-tokens // self.block_size))
        return True

    def grow(self, table: Table, computed_tokens: int, tokens: int) -> bool:
        """Extend the table to hold `tokens` tokens, or change nothing and return False."""
        request_id = table.request.id
        held = self._blocks[request_id]
        need = -(-tokens // self.block_size) - held
        if need <= 0:
            return True
        if not self._fits(self._starts[request_id] + held, need):
            self._note_refusal(request_id, need)
            return False
        self._take(request_id, need)
        return True

    def capacity_tokens(self, table: Table) -> int:
        """Return how many tokens a sequence can have before it needs another block."""
        return self._blocks[table.request.id] * self.block_size

    def release(self, table: Table) -> None:
        """Return a sequence's blocks, if it has any."""
        request_id = table.request.id
        blocks = self._blocks.pop(request_id, 0)
        if blocks:
            self._count(self._starts[request_id], -blocks)
        self._starts.pop(request_id, None)

    # -- what steps, logs and checks ask for --------------------------------------------------------------

    def sample(self, step: int, tables: Iterable[Holder], steps: int = 1, decoders: int = 0) -> None:
        """Sum up the state of `steps` steps from number `step` on, in which no block changes hands."""
        fullest = self.shards.blocks_per_rank - min(self.free)
        self.shards.add(steps, self.pool.num_blocks - 1 - self.pool.num_free, fullest)

    def take_moved_tokens(self) -> int:
        """Return 0: no block ever moves."""
        return 0

    def check_integrity(self, tables: Iterable[Holder]) -> None:
        """Check that each rank's blocks are free or held by these tables. Raises IntegrityError."""
        held = list(tables)
        if sorted(table.request.id for table in held) != sorted(self._blocks):
            raise IntegrityError("those that hold blocks and the tables differ")
        used = [0] * self.ranks
        for table in held:
            request_id = table.request.id
            if table.computed > self.capacity_tokens(table):
                raise IntegrityError(f"request {request_id} has more tokens than its blocks hold")
            for block in range(self._blocks[request_id]):
                used[(self._starts[request_id] + block) % self.ranks] += 1
        for rank, (taken, free) in enumerate(zip(used, self.free, strict=True)):
            if taken + free != self.shards.blocks_per_rank or free < 0:
                raise IntegrityError(f"rank {rank}: {taken} blocks held and {free} free")
        if self.pool.num_free != sum(self.free):
            raise IntegrityError(f"{self.pool.num_free} free blocks counted, {sum(self.free)} on the ranks")

    # -- ranks --------------------------------------------------------------------------------------------

    def _choose_start(self, request_id: int) -> int:
        if self._placement == "rotate":
            return request_id % self.ranks
        if self._placement == "least_used":
            return self.free.index(max(self.free))
        return 0

    def _fits(self, first: int, blocks: int) -> bool:
        """Whether so many blocks can be taken, one after the other, from rank `first` on."""
        rounds, rest = divmod(blocks, self.ranks)
        if min(self.free) > rounds:
            return True
        first %= self.ranks
        return all(
            free >= rounds + ((rank - first) % self.ranks < rest) for rank, free in enumerate(self.free)
        )

    def _take(self, request_id: int, blocks: int) -> None:
        """Take so many blocks more for a sequence; they fit."""
        self._count(self._starts[request_id] + self._blocks[request_id], blocks)
        self._blocks[request_id] += blocks

    def _count(self, first: int, blocks: int) -> None:
        """Take `blocks` blocks from rank `first` on; a negative number is returned, from there on."""
        sign = 1 if blocks > 0 else -1
        rounds, rest = divmod(abs(blocks), self.ranks)
        if rounds:
            self.free = [free - sign * rounds for free in self.free]
        for block in range(rest):
            self.free[(first + block) % self.ranks] -= sign
        self.pool.num_free -= blocks
        self._refused.clear()

    def _note_refusal(self, request_id: int, blocks: int) -> None:
        """Count a refusal, once for each request and state of the memory, however often it asks."""
        if request_id not in self._refused:
            self._refused.add(request_id)
            self.shards.refused += 1
            self.shards.refused_by_imbalance += blocks <= self.pool.num_free
