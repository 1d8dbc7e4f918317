"""vLLM's block pool by runs: the decisions of `block_pool`, at a cost per run of blocks instead of per block.

A run is a key, a size and its place in the free queue, and its blocks need no ids: who has which decides
nothing. It is split where a request hits only its head. Blocks that nobody can hit (without a hash yet, or
with tokens that no other request has) form runs without a key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from simserve.errors import IntegrityError
from simserve.kvcache.pool import UNKEYED, KVPool
from simserve.kvcache.run import Run


class RunPool(KVPool):
    """Blocks `1 ... num_blocks - 1` (0 is vLLM's null block) as runs, their free queue and the cache.

    Args:
        num_blocks: Blocks including the null block.
        block_size: Tokens per block: the distance of neighbouring keys.
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        super().__init__(num_blocks)
        self.block_size = block_size
        # A ring: the queue's front is `after` this one, its end `before`.
        self._queue = queue = Run(UNKEYED, 0)
        queue.before = queue.after = queue
        Run(UNKEYED, num_blocks - 1).link_before(queue)
        # First key of a run -> the run, or the runs of the same content in the order of publishing ("twins",
        # always of one size). A lookup returns the first.
        self._cached: dict[int, Run | list[Run]] = {}
        self._twins = 0

    # -- the free queue -----------------------------------------------------------------------------------

    def take(self, count: int) -> None:
        """Take `count` blocks from the front of the free queue. Needs count <= num_free."""
        self.num_free -= count
        queue = self._queue
        while count:
            run = queue.after
            assert run is not None
            size = run.size
            if size > count:
                if self._twins and run.key != UNKEYED and isinstance(self._cached[run.key], list):
                    self._split(run, size - count)  # what is taken now is a run of its own
                    continue
                run.size = size = size - count
                if run.key != UNKEYED:
                    self.num_free_cached -= count
                elif run.hashed > size:
                    self.num_free_cached -= run.hashed - size
                    run.hashed = size
                return
            count -= size
            run.unlink()
            if run.key != UNKEYED:
                self.num_free_cached -= size
                self._forget(run)
            else:
                self.num_free_cached -= run.hashed

    def release_unkeyed(self, count: int, hashed: int) -> None:
        """Append blocks that nobody can hit to the queue; `hashed` of them, taken last, carry a hash."""
        run = Run(UNKEYED, count)
        run.hashed = hashed
        self.num_free += count
        self.num_free_cached += hashed
        run.link_before(self._queue)

    def release(self, runs: list[Run], sizes: list[int]) -> None:
        """Give up a table's runs, the last first; those that nobody holds any more join the queue's end."""
        for index in range(len(runs) - 1, -1, -1):
            run = runs[index]
            if run.size != sizes[index]:
                for part in reversed(run.parts(sizes[index])):
                    self._drop(part)
            else:
                self._drop(run)

    def _drop(self, run: Run) -> None:
        run.references -= 1
        if not run.references:
            run.rest = None
            self.num_free += run.size
            self.num_free_cached += run.size
            run.link_before(self._queue)

    def hold(self, runs: list[Run], sizes: list[int]) -> None:
        """Add a reference to the first blocks of hit runs, as many of each as `sizes` says."""
        for run, size in zip(runs, sizes, strict=True):
            if run.size > size:
                self._split(run, size)
            if not run.references:
                run.unlink()
                self.num_free -= size
                self.num_free_cached -= size
            run.references += 1

    def count_idle(self, runs: list[Run], sizes: list[int]) -> int:
        """Return how many of the first blocks of the runs lie in the free queue."""
        idle = 0
        for run, size in zip(runs, sizes, strict=True):
            if not run.references:
                idle += size
        return idle

    # -- the cache ----------------------------------------------------------------------------------------

    def get(self, key: int) -> Run | None:
        """Return the run that begins with a key (the first published of several)."""
        hit = self._cached.get(key)
        return hit[0] if isinstance(hit, list) else hit

    def publish(self, runs: list[Run], sizes: list[int], key: int, count: int) -> None:
        """Enter blocks into the cache, which so become the end of a table; mutates `runs` and `sizes`.

        Args:
            runs, sizes: The table so far.
            key: Key of the first of the blocks.
            count: How many; they hold tokens of one segment.
        """
        step = self.block_size
        if key <= self.awaited_key < key + count * step:
            self.awaited_published = True
        cached = self._cached
        while True:
            hit = cached.get(key)
            if hit is None:
                last = runs[-1] if runs else None
                if (
                    last is not None
                    and last.key + last.size * step == key
                    and last.references == 1
                    and last.rest is None
                    and cached[last.key] is last
                ):
                    last.size += count
                    sizes[-1] += count
                    return
                cached[key] = self._begin(runs, sizes, key, count)
                return
            first = hit[0] if isinstance(hit, list) else hit
            if first.size > count:
                self._split(first, count)
                continue
            twin = self._begin(runs, sizes, key, first.size)
            if isinstance(hit, list):
                hit.append(twin)
            else:
                cached[key] = [hit, twin]
                self._twins += 1
            count -= first.size
            if not count:
                return
            key += first.size * step

    def _begin(self, runs: list[Run], sizes: list[int], key: int, size: int) -> Run:
        run = Run(key, size)
        run.references = 1
        runs.append(run)
        sizes.append(size)
        return run

    def _split(self, run: Run, size: int) -> None:
        """Split a run and its twins after `size` blocks; a free tail is taken before its head."""
        hit = self._cached[run.key]
        key = run.key + size * self.block_size
        heads = hit if isinstance(hit, list) else [run]
        tails = []
        for head in heads:
            tail = Run(key, head.size - size)
            tail.references = head.references
            head.size = size
            if head.references:
                tail.rest = head.rest
                head.rest = tail
            else:
                tail.link_before(head)
            tails.append(tail)
        if len(tails) > 1:
            self._cached[key] = tails
            self._twins += 1
        else:
            self._cached[key] = tails[0]

    def _forget(self, run: Run) -> None:
        """Drop the hashes of a run that has been taken."""
        hit = self._cached[run.key]
        if isinstance(hit, list):
            hit.remove(run)
            if len(hit) == 1:
                self._cached[run.key] = hit[0]
                self._twins -= 1
        else:
            del self._cached[run.key]

    # -- what logs and checks ask for ---------------------------------------------------------------------

    @property
    def num_cached(self) -> int:
        """Distinct cached keys, without those of blocks without a key that are held."""
        firsts = (hit[0] if isinstance(hit, list) else hit for hit in self._cached.values())
        return sum(run.size for run in firsts) + sum(run.hashed for run in self.free_runs())

    def free_runs(self) -> Iterator[Run]:
        """Yield the runs in the free queue, front first."""
        run = self._queue.after
        while run is not None and run is not self._queue:
            yield run
            run = run.after

    def check_integrity(self, owned: Iterable[tuple[list[Run], list[int]]], unkeyed: int) -> None:
        """Check that no block is lost or owned twice and that references add up.

        Args:
            owned: (runs, sizes) of every table.
            unkeyed: Blocks without a key that are held.

        Raises:
            IntegrityError: If an invariant does not hold.
        """
        counts: dict[Run, int] = {}
        for runs, sizes in owned:
            for run, size in zip(runs, sizes, strict=True):
                for part in run.parts(size):
                    counts[part] = counts.get(part, 0) + 1
        if any(run.references != count for run, count in counts.items()):
            raise IntegrityError("references of a run differ from the tables that hold it")
        free = list(self.free_runs())
        if any(run.references for run in free) or sum(run.size for run in free) != self.num_free:
            raise IntegrityError("a held run lies in the free queue, or free blocks do not add up")
        cached = sum(run.size if run.key != UNKEYED else run.hashed for run in free)
        if cached != self.num_free_cached:
            raise IntegrityError(f"{cached} free blocks have a hash, {self.num_free_cached} counted")
        held = sum(run.size for run in counts) + unkeyed
        if held + self.num_free != self.num_blocks - 1:
            raise IntegrityError(f"{held} blocks held and {self.num_free} free of {self.num_blocks - 1}")
        keyed = [run for run in (*free, *counts) if run.key != UNKEYED]
        entries = {key: hit if isinstance(hit, list) else [hit] for key, hit in self._cached.items()}
        known = sum(len(entry) for entry in entries.values())
        if known != len(keyed) or any(run not in entries.get(run.key, ()) for run in keyed):
            raise IntegrityError("the cache and the runs differ")
        if any(len({run.size for run in entry}) > 1 for entry in entries.values()):
            raise IntegrityError("runs of one key differ in size")
        if sum(len(entry) > 1 for entry in entries.values()) != self._twins:
            raise IntegrityError("keys with several runs do not add up")
