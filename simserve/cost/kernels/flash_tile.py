"""FlashAttention's block sizes: how a kernel cuts queries, keys and values to a device's shared memory."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np

from simserve.cost.kernels.form import Array

# Buffers of keys and values that a CTA keeps in shared memory at once (one block each).
_KEY_VALUE_BUFFERS = 2
_SMALLEST_TILE = 16
# Width of heads up to which FlashAttention-3 takes taller tiles (its tile_size_fwd_sm90).
_NARROW = 96


@dataclass(frozen=True, slots=True)
class Tile:
    """How a kernel cuts attention: FlashAttention's block sizes.

    Attributes:
        query_rows: Rows of queries that a CTA holds; the kernel re-reads keys and values once for each such
        tile. key_rows: Keys and values that it loads at once.
        packs: The query heads of a KV head share a tile (FlashAttention-3); else each has tiles of its own.
        narrow_rows: Rows where heads are at most 96 wide; 0: no others.
    """

    query_rows: int
    key_rows: int
    packs: bool
    narrow_rows: int = 0

    def fitted_rows(self, head_dim: Array, element_bytes: float, sram_bytes: float) -> Array:
        """Return the rows of queries that fit into shared memory beside the blocks of keys and values.

        FlashAttention needs (query_rows + 2 key_rows) x head_dim elements (Dao et al., 2022, algorithm 1);
        both are halved until that fits, down to 16 rows of queries.

        Args:
            head_dim: Of each row.
            element_bytes: Of queries, keys and values.
            sram_bytes: Shared memory of a multiprocessor; 0: unknown, so that everything fits.
        """
        narrow = self.narrow_rows or self.query_rows
        rows = np.where(head_dim <= _NARROW, float(narrow), float(self.query_rows))
        keys = np.full_like(rows, float(self.key_rows))
        room = sram_bytes / element_bytes if sram_bytes > 0 else inf
        while True:
            large = ((rows + _KEY_VALUE_BUFFERS * keys) * head_dim > room) & (rows > _SMALLEST_TILE)
            if not large.any():
                return rows
            rows_first = large & (rows > keys)
            rows = np.where(rows_first, rows / 2, rows)
            keys = np.where(large & ~rows_first, keys / 2, keys)
            rows = np.where(large & (keys < _SMALLEST_TILE), np.maximum(rows / 2, _SMALLEST_TILE), rows)


# Tiles of the generations: FlashAttention-2's of its paged kernel, FlashAttention-3's on Hopper; the others'
# were chosen by cross-validation over heads.
TILES = {
    "fa2": Tile(64, 64, packs=False),
    "fa3": Tile(128, 128, packs=True, narrow_rows=192),
    "flashinfer": Tile(64, 64, packs=False),
    "triton": Tile(64, 64, packs=False),
}
DEFAULT_TILE = Tile(128, 64, packs=False)
