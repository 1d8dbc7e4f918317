"""What other block sizes of FlashAttention would do to a prompt's attention, against a device's SRAM."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from simserve.cost.attention_prices import KernelAttention
from simserve.cost.fitted_kernel import FittedKernel
from simserve.cost.kernel_book import KernelBook
from simserve.cost.kernels.flash_tile import Tile
from simserve.cost.kernels.prefill_attention import PrefillAttentionForm
from simserve.errors import InputError
from simserve.model.operators import AttentionOperator

_BLOCK = re.compile(r"^(?P<rows>[1-9][0-9]*)(x(?P<keys>[1-9][0-9]*))?$")
# Bytes of an element of queries, keys and values in shared memory: 16 bits, whatever the cache stores.
_ELEMENT_BYTES = 2
# Blocks of rows x head_dim and of keys x head_dim that a CTA holds: the queries, and keys and values.
_KEY_BLOCKS = 2


@dataclass(frozen=True, slots=True)
class FlashBlock:
    """One block size, and the attention of a prompt with it.

    Attributes:
        query_rows, key_rows: As wanted; rows of queries that a CTA holds, and keys that it loads at once.
        sram_bytes: Shared memory that it needs in a multiprocessor.
        fitted_query_rows: Rows of queries left where it does not fit: blocks are halved until it does.
        seconds: Of all layers' prefill attention, on one rank.
        chosen: Whether the kernel has this block by itself.
    """

    query_rows: int
    key_rows: int
    sram_bytes: int
    fitted_query_rows: int
    seconds: float
    chosen: bool


def parse_blocks(text: str) -> list[tuple[int, int]]:
    """Read `64,128` or `64x128,128x64`: rows of queries, and of keys (as many where none are given).

    Raises:
        InputError: For anything else.
    """
    blocks = []
    for part in text.split(","):
        match = _BLOCK.match(part.strip())
        if match is None:
            raise InputError(f"--flash-block: expected sizes like 64,128 or 128x64, got {part.strip()!r}")
        blocks.append((int(match["rows"]), int(match["keys"] or match["rows"])))
    return blocks


def sweep_blocks(
    attention: Sequence[AttentionOperator], book: KernelBook, blocks: Sequence[tuple[int, int]], tokens: int
) -> list[FlashBlock]:
    """Price a prompt's attention with the kernel's own block and with others, all else as fitted.

    Args:
        attention: A stage's layers, on one rank.
        book: Kernels of the accelerator.
        blocks: Rows of queries and of keys.
        tokens: Of the prompt, which has no history.

    Raises:
        InputError: If the model's prefill attention has no such blocks (MLA).
    """
    own = _own_tile(attention[0], book)
    others = [Tile(rows, keys, own.packs) for rows, keys in dict.fromkeys(blocks)]
    tiles = [own, *(tile for tile in others if (tile.query_rows, tile.key_rows) != _sizes(own))]
    return [_price(attention, _TiledBook(book, tile), tokens, chosen=tile is own) for tile in tiles]


def _sizes(tile: Tile) -> tuple[int, int]:
    return tile.query_rows, tile.key_rows


class _TiledBook:
    """A book whose prefill attention cuts its work by another tile; residuals belong to the kernel's own."""

    def __init__(self, book: KernelBook, tile: Tile) -> None:
        self.book = book
        self.tile = tile

    def kernel(
        self,
        family: str,
        dtype: str,
        kv_dtype: str = "",
        variant: str | Sequence[str] = "",
        framework: str = "",
    ) -> FittedKernel:
        """Return the book's kernel, with the tile where it has one."""
        found = self.book.kernel(family, dtype, kv_dtype, variant, framework)
        if not isinstance(found.form, PrefillAttentionForm):
            return found
        return replace(found, form=PrefillAttentionForm(self.tile), residuals=None)

    def sustained_flops_per_s(self, dtype: str) -> float:
        """Return the book's rate."""
        return self.book.sustained_flops_per_s(dtype)


def _own_tile(operator: AttentionOperator, book: KernelBook) -> Tile:
    form = KernelAttention(operator, book).kernel("prefill").form
    if not isinstance(form, PrefillAttentionForm):
        raise InputError("--flash-block: this model's prefill attention is no FlashAttention (MLA)")
    return form.tile


def _price(
    attention: Sequence[AttentionOperator], book: _TiledBook, tokens: int, *, chosen: bool
) -> FlashBlock:
    one, zero = np.ones(1), np.zeros(1)
    seconds = sum(
        entry.layers * float(KernelAttention(entry, book).prefill_s(one, tokens * one, zero)[0])
        for entry in attention
    )
    tile, head_dim = book.tile, np.array([float(attention[0].head_dim)])
    device = KernelAttention(attention[0], book).kernel("prefill").device
    # Narrow heads may have taller tiles: what the kernel would hold if anything fitted.
    rows = int(tile.fitted_rows(head_dim, _ELEMENT_BYTES, 0.0)[0])
    fitted = int(tile.fitted_rows(head_dim, _ELEMENT_BYTES, device.sram_bytes)[0])
    needed = (rows + _KEY_BLOCKS * tile.key_rows) * attention[0].head_dim * _ELEMENT_BYTES
    return FlashBlock(rows, tile.key_rows, needed, fitted, seconds, chosen)
