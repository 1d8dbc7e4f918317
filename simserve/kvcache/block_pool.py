"""vLLM's block pool: one free queue in LRU order, and the cache of hashed blocks that can still be hit.

Rules: vLLM 0.19.0 `v1/core/block_pool.py`, as observed in its decision logs. A freed block keeps its hash and
stays hittable until it is taken again; only then is the hash dropped ("evicted"). Blocks made twice with
the same content are both kept under one key; a lookup returns the one inserted first.

Every block has its id here, as the logs show it and as windows need it; `run_pool` does the same by runs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from simserve.errors import IntegrityError
from simserve.kvcache.pool import KVPool


class BlockPool(KVPool):
    """Blocks `1 ... num_blocks - 1` (0 is vLLM's null block), their free queue and the hash of each.

    Args:
        num_blocks: Blocks including the null block.
        observe: Collect evicted ids in `evicted` (the caller clears it).

    Attributes:
        references: Owners of each block, by id.
        evicted: Blocks whose hash was dropped, in order.
    """

    def __init__(self, num_blocks: int, *, observe: bool = False) -> None:
        super().__init__(num_blocks)
        self.references = [0] * num_blocks
        self.evicted: list[int] = []
        self._observe = observe
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(1, num_blocks))
        # Key -> ids of its blocks in the order of publishing.
        self._cached: dict[int, dict[int, None]] = {}
        self._key_of: dict[int, int] = {}

    # -- taking and releasing ---------------------------------------------------------------------

    def take(self, count: int) -> list[int]:
        """Take `count` blocks from the front of the free queue, for one owner. Needs count <= num_free."""
        self.num_free -= count
        taken = [self._free.popitem(last=False)[0] for _ in range(count)]
        for block in taken:
            self.references[block] = 1
            key = self._key_of.pop(block, None)
            if key is not None:
                self.num_free_cached -= 1
                holders = self._cached[key]
                del holders[block]
                if not holders:
                    del self._cached[key]
                if self._observe:
                    self.evicted.append(block)
        return taken

    def release(self, ids: Iterable[int]) -> None:
        """Drop one reference of each block, in this order; those that reach 0 join the queue's end."""
        for block in ids:
            self.references[block] -= 1
            if not self.references[block]:
                self._free[block] = None
                self.num_free += 1
                self.num_free_cached += block in self._key_of

    def touch(self, ids: Iterable[int]) -> None:
        """Add a reference to hit blocks; free ones leave the middle of the queue."""
        for block in ids:
            if not self.references[block]:
                del self._free[block]
                self.num_free -= 1
                self.num_free_cached -= block in self._key_of
            self.references[block] += 1

    def count_idle(self, ids: Iterable[int]) -> int:
        """Return how many of the blocks lie in the free queue."""
        return sum(not self.references[block] for block in ids)

    # -- the cache ----------------------------------------------------------------------------------

    def get(self, key: int) -> int | None:
        """Return the block cached under a key (the first inserted of several)."""
        holders = self._cached.get(key)
        return next(iter(holders)) if holders else None

    def publish(self, ids: Iterable[int], keys: Iterable[int]) -> None:
        """Enter full blocks into the cache under their keys."""
        for block, key in zip(ids, keys, strict=True):
            self._key_of[block] = key
            self._cached.setdefault(key, {})[block] = None
            if key == self.awaited_key:
                self.awaited_published = True

    # -- what logs and checks ask for ------------------------------------------------------------------

    @property
    def num_cached(self) -> int:
        """Distinct cached keys."""
        return len(self._cached)

    def free_block_ids(self) -> list[int]:
        """Return the ids in the free queue, front first."""
        return list(self._free)

    def check_integrity(self, owned: Iterable[Iterable[int]]) -> None:
        """Check that no block is lost or owned twice and that references add up.

        Args:
            owned: Block tables, one reference each.

        Raises:
            IntegrityError: If an invariant does not hold.
        """
        counts = [0] * self.num_blocks
        for table in owned:
            for block in table:
                if block:
                    counts[block] += 1
        if counts != self.references:
            wrong = [b for b in range(self.num_blocks) if counts[b] != self.references[b]]
            raise IntegrityError(f"reference counts differ for blocks {wrong[:8]}")
        free = self.free_block_ids()
        if len(free) != self.num_free:
            raise IntegrityError(f"{len(free)} blocks in the free queue, {self.num_free} counted")
        cached = sum(block in self._key_of for block in free)
        if cached != self.num_free_cached:
            raise IntegrityError(f"{cached} free blocks have a hash, {self.num_free_cached} counted")
        places = [*free, *(block for block in range(self.num_blocks) if counts[block])]
        if sorted(places) != list(range(1, self.num_blocks)):
            raise IntegrityError("a block is lost, or owned and free")
        for block, key in self._key_of.items():
            if block not in self._cached.get(key, ()):
                raise IntegrityError(f"block {block} has a key that the cache does not know")
