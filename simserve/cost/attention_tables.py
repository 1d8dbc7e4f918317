"""Attention of the layers that share a window, tabulated over what a step varies.

Decodes are tabulated over their number and their mean context: measured times depend on the sum of the
contexts, not on the longest (kernel study, finding 4: the mean is 4 to 5 % off, the maximum 75 to 105 %). A
prefill chunk is tabulated over its tokens and its history, twice: alone, and as its share of a launch of many
that fill the accelerator. Several chunks take the time of the longest alone, or of all shares together,
whichever is more. No table is below what the peaks allow.
"""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import numpy as np

from simserve.cost.fitted_kernel import FittedKernel
from simserve.cost.grid import Array, Grid, PairGrid, ascending, spread_knots
from simserve.model.operators import AttentionOperator, attended_pairs_of

# Sequences, mean context, tokens of a chunk and its history at which kernels are priced.
DECODE_KNOTS = sorted({1, 2, 3, 4, *spread_knots(4, 8192, 2)})
CONTEXT_KNOTS = [1, *spread_knots(16, 2**20, 3)]
CHUNK_KNOTS = sorted({1, *spread_knots(16, 2**18, 4)})
HISTORY_KNOTS = [0, *spread_knots(64, 2**20, 2)]
# So many equal chunks fill any accelerator.
_MANY = 64.0


class AttentionPrices(Protocol):
    """Seconds of one launch of attention, elementwise over its sizes."""

    def decode_s(self, decodes: Array, context: Array) -> Array:
        """Of `decodes` sequences of one token each, with `context` keys each."""

    def prefill_s(self, chunks: Array, tokens: Array, history: Array) -> Array:
        """Of `chunks` equal chunks."""

    def mixed_decode_s(self, decodes: Array, context: Array) -> Array:
        """What decodes add to a launch that holds a prefill chunk."""

    def kernel(self, phase: str) -> FittedKernel:
        """What prices a phase: "decode" or "prefill"."""

    def provenance(self, phase: str, size: float, context: float) -> tuple[str, str, float | None]:
        """Tier, source and error of `size` decodes of a mean context, or of a chunk after it."""


class AttentionTables:
    """Times of all layers of one attention operator, in seconds.

    Args:
        operator: The layers.
        prices: Of one of their launches.
        flops_per_s, bytes_per_s: The accelerator's peaks.
    """

    def __init__(
        self, operator: AttentionOperator, prices: AttentionPrices, flops_per_s: float, bytes_per_s: float
    ) -> None:
        self.operator = operator
        self.prices = prices
        self._flops_per_s = flops_per_s
        self._bytes_per_s = bytes_per_s

    @cached_property
    def decode(self) -> Grid:
        """Decode-only steps, over sequences and mean context."""
        decodes, context = _mesh(DECODE_KNOTS, CONTEXT_KNOTS)
        return self._decode_grid(self.prices.decode_s(decodes, context))

    @cached_property
    def mixed(self) -> Grid:
        """What decodes add to a step with prefill chunks."""
        decodes, context = _mesh(DECODE_KNOTS, CONTEXT_KNOTS)
        return self._decode_grid(self.prices.mixed_decode_s(decodes, context))

    @cached_property
    def chunk(self) -> PairGrid:
        """A chunk in a launch of its own, and its share of a launch of many; over tokens and history."""
        tokens, history = _mesh(CHUNK_KNOTS, HISTORY_KNOTS)
        operator, window = self.operator, self.operator.window
        flops = operator.prefill_flops_a_pair * attended_pairs_of(tokens, history, window)
        flops += operator.history_flops_a_token * history
        keys = tokens + (np.minimum(history, window) if window else history)
        moved = operator.kv_bytes_a_token * keys + operator.query_bytes_a_token * tokens
        least = self._least_s(flops, moved)
        alone = np.maximum(self.prices.prefill_s(np.ones_like(tokens), tokens, history), least)
        many = self.prices.prefill_s(np.full_like(tokens, _MANY), tokens, history) / _MANY
        parts = (self._table(part, CHUNK_KNOTS, HISTORY_KNOTS) for part in (alone, np.maximum(many, least)))
        return PairGrid(CHUNK_KNOTS, HISTORY_KNOTS, *parts)

    def decode_row(self, decodes: int, *, mixed: bool) -> list[float]:
        """Seconds at `CONTEXT_KNOTS` of mean context for a number of decodes."""
        return (self.mixed if mixed else self.decode).row(float(decodes))

    def _decode_grid(self, seconds: Array) -> Grid:
        decodes, context = _mesh(DECODE_KNOTS, CONTEXT_KNOTS)
        operator = self.operator
        moved = operator.query_bytes_a_token + context * operator.kv_bytes_a_token
        least = self._least_s(decodes * context * operator.decode_flops_a_key, decodes * moved)
        table = self._table(np.maximum(seconds, least), DECODE_KNOTS, CONTEXT_KNOTS)
        return Grid(DECODE_KNOTS, CONTEXT_KNOTS, table)

    def _least_s(self, flops: Array, moved: Array) -> Array:
        return np.maximum(flops / self._flops_per_s, moved / self._bytes_per_s)

    def _table(self, seconds: Array, first: list[int], second: list[int]) -> Array:
        return self.operator.layers * ascending(seconds.reshape(len(first), len(second)))


def _mesh(first: list[int], second: list[int]) -> tuple[Array, Array]:
    """Return both sizes of every pair of knots."""
    one, two = np.meshgrid(np.array(first, np.float64), np.array(second, np.float64), indexing="ij")
    return one.reshape(-1), two.reshape(-1)
