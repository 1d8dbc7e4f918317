"""vLLM's block pool: one free queue in LRU order, and the cache of hashed blocks that can still be hit.

Rules: vLLM 0.19.0 `v1/core/block_pool.py`, as observed in its decision logs. A freed block keeps its hash and
stays hittable until it is taken again; only then is the hash dropped ("evicted"). Blocks made twice with
the same content are both kept under one key; a lookup returns the one inserted first.

Blocks that may be shared are queued one by one. The private tail of a request (tokens that no other
request has) is queued as one extent: nobody can hit it, so it only ever leaves from the front.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from simserve.errors import IntegrityError


class Extent:
    """Private free blocks that were released together, in queue order.

    Attributes:
        ids: Block ids, the next one to be taken at `position`.
        unhashed: How many of the first ids carry no hash (a partial last block, lookahead blocks).
    """

    __slots__ = ("ids", "position", "unhashed")

    def __init__(self, ids: list[int], unhashed: int) -> None:
        self.ids = ids
        self.position = 0
        self.unhashed = unhashed


class BlockPool:
    """Blocks `1 ... num_blocks - 1` (0 is vLLM's null block), their free queue and the hash of each.

    Args:
        num_blocks: Blocks including the null block.
        observe: Collect evicted ids in `evicted` (the caller clears it).
    """

    def __init__(self, num_blocks: int, *, observe: bool = False) -> None:
        self.num_blocks = num_blocks
        self.num_free = num_blocks - 1
        self.references = [0] * num_blocks
        self.evicted: list[int] = []
        self._observe = observe
        # Free queue. Keys: a block id, or a negative number for an extent.
        self._free: OrderedDict[int, Extent | None] = OrderedDict()
        self._extents = 1
        self._free[-1] = Extent(list(range(1, num_blocks)), num_blocks - 1)
        # Key -> block id, or an insertion-ordered dict of ids where a key was made twice.
        self._cached: dict[int, int | dict[int, None]] = {}
        self._key_of: dict[int, int] = {}
        self._duplicates = 0

    # -- taking and releasing ---------------------------------------------------------------------

    def take(self, count: int) -> list[int]:
        """Take `count` blocks from the front of the free queue; drops their hashes. Needs count <= num_free."""
        queue = self._free
        self.num_free -= count
        taken: list[int] = []
        while count:
            key, extent = queue.popitem(last=False)
            if extent is None:
                taken.append(key)
                count -= 1
                if key in self._key_of:
                    self._evict(key)
                continue
            begin = extent.position
            end = min(len(extent.ids), begin + count)
            taken += extent.ids[begin:end]
            count -= end - begin
            if self._observe and end > extent.unhashed:
                self.evicted += extent.ids[max(begin, extent.unhashed) : end]
            if end < len(extent.ids):
                extent.position = end
                queue[key] = extent
                queue.move_to_end(key, last=False)
        return taken

    def take_one(self) -> int:
        """Take the block at the front of the free queue; drops its hash. Needs num_free >= 1."""
        queue = self._free
        key = next(iter(queue))
        extent = queue[key]
        self.num_free -= 1
        if extent is None:
            del queue[key]
            if key in self._key_of:
                self._evict(key)
            return key
        block = extent.ids[extent.position]
        if self._observe and extent.position >= extent.unhashed:
            self.evicted.append(block)
        extent.position += 1
        if extent.position == len(extent.ids):
            del queue[key]
        return block

    def release_private(self, ids: list[int], hashed: int) -> None:
        """Append private blocks to the queue's end, the last of `ids` first; the first `hashed` carry a hash."""
        if not ids:
            return
        self._extents += 1
        self._free[-self._extents] = Extent(ids[::-1], len(ids) - hashed)
        self.num_free += len(ids)

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
        for block, key in zip(ids, keys, strict=True):
            hit = cached.setdefault(key, block)
            if hit is block or hit == block:
                continue
            if isinstance(hit, dict):
                hit[block] = None
            else:
                cached[key] = {hit: None, block: None}
                self._duplicates += 1

    def _evict(self, block: int) -> None:
        key = self._key_of.pop(block)
        hit = self._cached[key]
        if isinstance(hit, dict):
            del hit[block]
            if not hit:
                del self._cached[key]
                self._duplicates -= 1
        else:
            del self._cached[key]
        if self._observe:
            self.evicted.append(block)

    # -- what logs and checks ask for ------------------------------------------------------------------

    @property
    def num_cached(self) -> int:
        """Distinct cached keys, without those of private blocks that are owned."""
        hashed = 0
        for extent in self._free.values():
            if extent is not None:
                hashed += len(extent.ids) - max(extent.position, extent.unhashed)
        return len(self._cached) + hashed

    def free_block_ids(self) -> list[int]:
        """Return the free queue, front first."""
        ids: list[int] = []
        for key, extent in self._free.items():
            if extent is None:
                ids.append(key)
            else:
                ids += extent.ids[extent.position :]
        return ids

    def check_integrity(self, owned: Iterable[Iterable[int]], private: Iterable[Iterable[int]]) -> None:
        """Check that no block is lost or owned twice and that references add up.

        Args:
            owned: Tables of shareable blocks, one reference each.
            private: Blocks that have exactly one owner and no reference count.

        Raises:
            IntegrityError: If an invariant does not hold.
        """
        free = self.free_block_ids()
        counts = [0] * self.num_blocks
        for table in owned:
            for block in table:
                if block:
                    counts[block] += 1
        if counts != self.references:
            wrong = [b for b in range(self.num_blocks) if counts[b] != self.references[b]]
            raise IntegrityError(f"reference counts differ for blocks {wrong[:8]}")
        single = [block for table in private for block in table]
        places = free + single + [block for block in range(self.num_blocks) if counts[block]]
        if len(free) != self.num_free:
            raise IntegrityError(f"{len(free)} blocks in the free queue, {self.num_free} counted")
        if sorted(places) != list(range(1, self.num_blocks)):
            raise IntegrityError("a block is lost, or owned twice, or owned and free")
        for block, key in self._key_of.items():
            hit = self._cached.get(key)
            if hit != block and not (isinstance(hit, dict) and block in hit):
                raise IntegrityError(f"block {block} has a key that the cache does not know")
