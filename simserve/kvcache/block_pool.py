"""vLLM's block pool: one free queue in LRU order, and the cache of hashed blocks that can still be hit.

Rules: vLLM 0.19.0 `v1/core/block_pool.py`, as observed in its decision logs. A freed block keeps its hash and
stays hittable until it is taken again; only then is the hash dropped ("evicted"). Blocks made twice with
the same content are both kept under one key; a lookup returns the one inserted first.

Blocks that may be shared are queued one by one, by id. Blocks that hold tokens which no other request has are
only counted: nobody can hit them, so a run of them that was released together (an extent) only ever
leaves from the front, and which of them has which id decides nothing. `observe` tracks all one by one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from itertools import repeat

from simserve.errors import IntegrityError


class BlockPool:
    """Blocks `1 ... num_blocks - 1` (0 is vLLM's null block), their free queue and the hash of each.

    Args:
        num_blocks: Blocks including the null block.
        observe: Give every block its id from the start, and collect evicted ids in `evicted` (the caller
            clears it).

    Attributes:
        num_free: Blocks in the free queue.
        references: Owners of each block that has an id, by id.
        awaited_key, awaited_published: A key to watch, and whether `publish` has entered it since.
    """

    def __init__(self, num_blocks: int, *, observe: bool = False) -> None:
        self.num_blocks = num_blocks
        self.num_free = num_blocks - 1
        self.references = [0] * num_blocks
        # A key that somebody waits for, and whether it has been published since.
        self.awaited_key = -1
        self.awaited_published = False
        self.evicted: list[int] = []
        self._observe = observe
        # Free queue. Keys: a block id, or a negative number for an extent [blocks, those without a hash];
        # blocks without a hash (a partial last block, lookahead blocks) come first in it.
        self._free: OrderedDict[int, list[int] | None] = OrderedDict()
        self._extents = 0
        # Ids of counted blocks: those given back, and all from `_fresh` on.
        self._spare: list[int] = []
        self._fresh = 1
        # Hashes of counted blocks in the free queue.
        self._hashed_extents = 0
        # The extent at the very front, which is being used up; it stands before all of `_free`.
        self._front = [0, 0]
        if observe:
            self._free = OrderedDict.fromkeys(range(1, num_blocks))
            self._fresh = num_blocks
        else:
            self._front = [num_blocks - 1, num_blocks - 1]
        # Key -> block id, or an insertion-ordered dict of ids where a key was made twice.
        self._cached: dict[int, int | dict[int, None]] = {}
        self._key_of: dict[int, int] = {}
        self._duplicates = 0

    # -- taking and releasing ---------------------------------------------------------------------

    def take_counted(self, count: int) -> None:
        """Take `count` blocks from the front of the free queue, to be counted. Needs count <= num_free."""
        self.num_free -= count
        front = self._front
        if count <= front[1]:
            front[0] -= count
            front[1] -= count
            return
        while True:
            size, unhashed = front
            if count < size:
                front[0] = size - count
                if count > unhashed:
                    self._hashed_extents -= count - unhashed
                    front[1] = 0
                else:
                    front[1] = unhashed - count
                return
            self._hashed_extents -= size - unhashed
            count -= size
            front[0] = front[1] = 0
            if not count:
                return
            key, extent = self._free.popitem(last=False)
            if extent is not None:
                self._front = front = extent
                continue
            self._evict([key])
            self._spare.append(key)
            count -= 1
            if not count:
                return

    def take(self, count: int) -> list[int]:
        """Take `count` blocks from the front of the free queue, by id. Needs count <= num_free."""
        self.num_free -= count
        front = self._front
        taken: list[int] = []
        popitem = self._free.popitem
        while True:
            size = min(front[0], count - len(taken))
            if size:
                taken += self.name_counted(size)
                hashed = max(0, size - front[1])
                self._hashed_extents -= hashed
                front[0] -= size
                front[1] -= size - hashed
            popped: list[int] = []
            missing = count - len(taken)
            while len(popped) < missing:
                block, extent = popitem(last=False)
                if extent is not None:
                    self._front = front = extent
                    break
                popped.append(block)
            if popped:
                self._evict(popped)
                taken += popped
            if len(taken) == count:
                return taken

    def _evict(self, blocks: list[int]) -> None:
        """Drop the hashes of tracked blocks that have left the queue, those that have one."""
        cached = self._cached
        keys = list(map(self._key_of.pop, blocks, repeat(-1)))
        if -1 in keys:
            hashed = [(key, block) for key, block in zip(keys, blocks, strict=True) if key != -1]
            keys, blocks = [key for key, _ in hashed], [block for _, block in hashed]
        hits = list(map(cached.pop, keys, repeat(None)))
        if hits != blocks:
            # Some keys have several blocks: put the others back, and evict one after the other.
            for key, hit, block in zip(keys, hits, blocks, strict=True):
                if hit != block:
                    self._evict_duplicate(key, hit, block)
        if self._observe:
            self.evicted += blocks

    def name_counted(self, count: int) -> list[int]:
        """Give `count` counted blocks their ids."""
        spare = self._spare
        split = max(0, len(spare) - count)
        ids = spare[split:]
        del spare[split:]
        missing = count - len(ids)
        if missing:
            ids += range(self._fresh, self._fresh + missing)
            self._fresh += missing
        return ids

    def release_counted(self, count: int, hashed: int) -> None:
        """Append counted blocks to the queue's end; `hashed` of them, the last to be taken, carry a hash."""
        self.num_free += count
        self._extents += 1
        self._free[-self._extents] = [count, count - hashed]
        self._hashed_extents += hashed

    def release(self, ids: Iterable[int]) -> None:
        """Drop one reference of each block, in this order; those that reach 0 join the queue's end."""
        references, queue = self.references, self._free
        freed = 0
        for block in ids:
            references[block] -= 1
            if not references[block]:
                queue[block] = None
                freed += 1
        self.num_free += freed

    def own(self, ids: Iterable[int]) -> None:
        """Give freshly taken blocks, that may be shared later, their first reference."""
        references = self.references
        for block in ids:
            references[block] = 1

    def touch(self, ids: Iterable[int]) -> None:
        """Add a reference to hit blocks; free ones leave the middle of the queue."""
        references, queue = self.references, self._free
        for block in ids:
            if not references[block]:
                del queue[block]
                self.num_free -= 1
            references[block] += 1

    def count_idle(self, ids: Iterable[int]) -> int:
        """Return how many of the blocks lie in the free queue."""
        return list(map(self.references.__getitem__, ids)).count(0)

    # -- the cache ----------------------------------------------------------------------------------

    def find(self, keys: list[int]) -> list[int]:
        """Return the blocks of the leading keys that are cached, up to the first miss."""
        found = list(map(self._cached.get, keys))
        if None in found:
            del found[found.index(None) :]
        if self._duplicates:
            return [next(iter(hit)) if isinstance(hit, dict) else hit for hit in found]  # type: ignore[misc]
        return found  # type: ignore[return-value]

    def get(self, key: int) -> int | None:
        """Return the block cached under a key (the first inserted of several)."""
        hit = self._cached.get(key)
        return next(iter(hit)) if isinstance(hit, dict) else hit

    def publish(self, ids: list[int], keys: list[int]) -> None:
        """Enter full blocks into the cache under their keys."""
        cached = self._cached
        self._key_of.update(zip(ids, keys, strict=True))
        if cached.keys().isdisjoint(keys) and len(set(keys)) == len(keys):
            cached.update(zip(keys, ids, strict=True))
        else:
            for block, key in zip(ids, keys, strict=True):
                hit = cached.setdefault(key, block)
                if hit == block:
                    continue
                if isinstance(hit, dict):
                    hit[block] = None
                else:
                    cached[key] = {hit: None, block: None}
                    self._duplicates += 1
        if self.awaited_key in keys:
            self.awaited_published = True

    def _evict_duplicate(self, key: int, hit: int | dict[int, None] | None, block: int) -> None:
        """Evict one of several blocks of a key that has been popped with all of them."""
        if hit is None:
            # Popped together with another block of the same key, and put back since.
            hit = self._cached.pop(key)
        if isinstance(hit, dict):
            del hit[block]
            if hit:
                self._cached[key] = hit
            else:
                self._duplicates -= 1

    # -- what logs and checks ask for ------------------------------------------------------------------

    @property
    def num_cached(self) -> int:
        """Distinct cached keys, without those of counted blocks that are owned."""
        return len(self._cached) + self._hashed_extents

    def free_block_ids(self) -> list[int]:
        """Return the ids in the free queue, front first. Counted blocks have none."""
        return [key for key, extent in self._free.items() if extent is None]

    def check_integrity(self, owned: Iterable[Iterable[int]], counted: int) -> None:
        """Check that no block is lost or owned twice and that references add up.

        Args:
            owned: Tables of blocks with ids, one reference each.
            counted: Counted blocks that are owned.

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
        extents = [self._front, *(extent for extent in self._free.values() if extent is not None)]
        in_extents = sum(extent[0] for extent in extents)
        if len(free) + in_extents != self.num_free:
            raise IntegrityError(
                f"{len(free) + in_extents} blocks in the free queue, {self.num_free} counted"
            )
        spare = [*self._spare, *range(self._fresh, self.num_blocks)]
        if len(spare) != in_extents + counted:
            raise IntegrityError(f"{len(spare)} ids for {in_extents} free and {counted} owned counted blocks")
        places = [*free, *spare, *(block for block in range(self.num_blocks) if counts[block])]
        if sorted(places) != list(range(1, self.num_blocks)):
            raise IntegrityError("a block is lost, or owned twice, or owned and free")
        if sum(extent[0] - extent[1] for extent in extents) != self._hashed_extents:
            raise IntegrityError("hashes of counted blocks do not add up")
        for block, key in self._key_of.items():
            hit = self._cached.get(key)
            if hit != block and not (isinstance(hit, dict) and block in hit):
                raise IntegrityError(f"block {block} has a key that the cache does not know")
