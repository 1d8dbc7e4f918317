"""One KV group of a model, whose layers all attend to the whole context or all to the same window.

Groups share one pool: keys are (group, chain of tokens). A window group holds only the blocks that its window
still reads; the null block 0 stands in place of the others. Rule 16 of vLLM 0.19.0's logs.
"""

from __future__ import annotations

from collections.abc import Iterable

from simserve.kvcache.block_pool import BlockPool

NULL_BLOCK = 0


class BlockGroup:
    """What differs from group to group, given a table's block ids.

    Args:
        pool: The blocks of all groups.
        index: Its number.
        window: In tokens, None for full attention.
        block_size: Tokens per block.
        drop_last_hit: EAGLE: one hit block fewer.
    """

    def __init__(
        self, pool: BlockPool, index: int, window: int | None, block_size: int, *, drop_last_hit: bool
    ) -> None:
        self.window = window
        self._pool = pool
        self._key_offset = index << 64
        self._block_size = block_size
        self._drop_last_hit = drop_last_hit
        # Blocks that a hit of a window group needs one after the other.
        self._run_needed = -(-((window or 0) - 1) // block_size) + drop_last_hit

    def find(self, keys: list[int], length: int) -> list[int]:
        """Return the blocks that a prefix of at most `length` blocks hits."""
        hits = self._find_leading(keys, length) if self.window is None else self._find_window(keys, length)
        if self._drop_last_hit and hits:
            hits.pop()
        return hits

    def _find_leading(self, keys: list[int], length: int) -> list[int]:
        hits: list[int] = []
        for key in keys[:length]:
            block = self._pool.get(key + self._key_offset)
            if block is None:
                break
            hits.append(block)
        return hits

    def _find_window(self, keys: list[int], length: int) -> list[int]:
        """Find the last place up to which a whole window is there, or what is there from the start on."""
        hits = [NULL_BLOCK] * length
        run = 0
        for i in range(length - 1, -1, -1):
            block = self._pool.get(keys[i] + self._key_offset)
            if block is None:
                run = 0
                continue
            hits[i] = block
            run += 1
            if run >= self._run_needed:
                del hits[i + run :]
                return hits
        del hits[run:]
        return hits

    def count_skipped(self, computed_tokens: int) -> int:
        """Return how many leading blocks the next token no longer reads."""
        return 0 if self.window is None else max(0, computed_tokens - self.window + 1) // self._block_size

    def count_needed(self, hits: list[int], hit_tokens: int, tokens: int) -> int:
        """Return how many free blocks a new table takes: fresh ones for `tokens` tokens, and idle hits."""
        skip = self.count_skipped(hit_tokens)
        fresh = max(-(-tokens // self._block_size) - max(skip, len(hits)), 0)
        return fresh + self._pool.count_idle(block for block in hits[skip:] if block != NULL_BLOCK)

    def hold(self, hits: list[int], hit_tokens: int) -> list[int]:
        """Return a table of hits, held, and null blocks for what is not read."""
        skip = self.count_skipped(hit_tokens)
        kept = hits[skip:]
        self._pool.touch(block for block in kept if block != NULL_BLOCK)
        return [NULL_BLOCK] * skip + kept

    def release_outside(self, blocks: list[int], computed_tokens: int) -> None:
        """Release what has left the window; mutates the table."""
        outside = []
        for i in range(min(self.count_skipped(computed_tokens), len(blocks)) - 1, -1, -1):
            if blocks[i] == NULL_BLOCK:
                break
            outside.append(blocks[i])
            blocks[i] = NULL_BLOCK
        self._pool.release(outside)

    def release(self, blocks: list[int]) -> None:
        """Release a whole table, the last block first."""
        self._pool.release(block for block in reversed(blocks) if block != NULL_BLOCK)

    def publish(self, blocks: list[int], keys: list[int], places: Iterable[int]) -> None:
        """Enter the blocks at some places of a table into the cache, except null blocks."""
        fresh = [i for i in places if blocks[i] != NULL_BLOCK]
        self._pool.publish([blocks[i] for i in fresh], [keys[i] + self._key_offset for i in fresh])
