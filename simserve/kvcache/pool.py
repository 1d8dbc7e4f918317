"""What every pool of KV blocks tells a scheduler."""

from __future__ import annotations

# No key has this value.
UNKEYED = -1


class KVPool:
    """Blocks `1 ... num_blocks - 1`; block 0 is vLLM's null block.

    Args:
        num_blocks: Blocks including the null block.

    Attributes:
        num_free: Blocks in the free queue.
        num_free_cached: Those of them that have a hash: what a lookup can find until they are taken.
        awaited_key, awaited_published: A key to watch, and whether it has been published since.
    """

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self.num_free = num_blocks - 1
        self.num_free_cached = 0
        self.awaited_key = UNKEYED
        self.awaited_published = False
