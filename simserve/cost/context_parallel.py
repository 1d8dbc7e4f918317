"""Attention of ranks that share the tokens of each sequence (vLLM's decode context parallelism).

A decode runs the heads of all these ranks over this rank's share of the keys: the ranks gather the queries,
and afterwards the sums of exponentials, scale their partial outputs by them, add those up and scatter the
heads (`cp_lse_ag_out_rs` in vllm/v1/attention/ops/common.py). A prefill chunk does so too, but for latent
attention: that gathers the cached latent of the history instead. The arithmetic of a chunk, which is what
bounds it, is the same as without sharing. The pass that scales the outputs is not priced.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from simserve.cost.attention_prices import KernelAttention
from simserve.cost.collectives import Collectives
from simserve.cost.fitted_kernel import FittedKernel
from simserve.cost.grid import Array
from simserve.cost.kernel_book import KernelBook
from simserve.cost.kernels.collective import ALL_GATHER, REDUCE_SCATTER
from simserve.model.operators import AttentionOperator

_ACTIVATION_BYTES, _SUM_BYTES = 2.0, 4.0


class ContextParallelAttention:
    """Attention priced by fitted kernels, on the rank with the largest share; an `AttentionPrices`.

    Args:
        operator: The layers.
        book: Kernels of the accelerator.
        architecture: The accelerator's.
        links: Of the ranks that share sequences.
    """

    def __init__(
        self, operator: AttentionOperator, book: KernelBook, architecture: str, links: Collectives
    ) -> None:
        self.operator = operator
        self._links = links
        ranks = operator.context_ranks
        alone = replace(operator, kv_bytes_a_token=operator.kv_bytes_a_token * ranks, context_ranks=1)
        self._latent_bytes = alone.kv_bytes_a_token
        self._alone = KernelAttention(alone, book, architecture)
        self._shared = KernelAttention(replace(alone, heads=operator.heads * ranks), book, architecture)

    def decode_s(self, decodes: Array, context: Array) -> Array:
        """Of `decodes` sequences of one token each, with `context` keys each on all ranks together."""
        own = self._shared.decode_s(decodes, self.operator.local_context(context))
        return own + self._exchange_s(decodes)

    def mixed_decode_s(self, decodes: Array, context: Array) -> Array:
        """What decodes add to a launch that holds a prefill chunk."""
        own = self._shared.mixed_decode_s(decodes, self.operator.local_context(context))
        exchange = self._exchange_s(decodes)
        if not self.operator.latent_dim:  # the chunk exchanges its queries in the same collectives
            exchange = exchange - self._exchange_s(np.ones_like(decodes))
        return own + exchange

    def prefill_s(self, chunks: Array, tokens: Array, history: Array) -> Array:
        """Of `chunks` equal chunks."""
        own = self._alone.prefill_s(chunks, tokens, history)
        if self.operator.latent_dim:
            return own + self._links.seconds(ALL_GATHER, chunks * history * self._latent_bytes)
        return own + self._exchange_s(chunks * tokens)

    def _exchange_s(self, tokens: Array) -> Array:
        """Seconds to gather queries and sums, and to scatter outputs, of `tokens` tokens."""
        operator = self.operator
        heads = operator.heads * operator.context_ranks
        query_dim = output_dim = operator.head_dim
        if operator.latent_dim:  # decodes absorb the expansion: both have the latent's width
            query_dim, output_dim = operator.latent_dim + operator.rope_dim, operator.latent_dim
        row_bytes = heads * _ACTIVATION_BYTES
        sums = tokens * heads * operator.context_ranks * _SUM_BYTES
        return (
            self._links.seconds(ALL_GATHER, tokens * row_bytes * query_dim)
            + self._links.seconds(ALL_GATHER, sums)
            + self._links.seconds(REDUCE_SCATTER, tokens * row_bytes * output_dim)
        )

    def kernel(self, phase: str) -> FittedKernel:
        """The kernel of a phase: "decode" or "prefill"."""
        return (self._shared if phase == "decode" else self._alone).kernel(phase)

    def provenance(self, phase: str, size: float, context: float) -> tuple[str, str, float | None]:
        """What prices `size` decodes of a mean context, or a chunk of `size` tokens after it."""
        if phase == "decode":
            return self._shared.provenance(phase, size, context / self.operator.context_ranks)
        return self._alone.provenance(phase, size, context)
