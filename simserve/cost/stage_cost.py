"""Prices the operators of one pipeline stage on one accelerator: the slow, explicit path behind the timer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from simserve.cost.calibration import EXTRA_KEYS, QUERY_PADDING
from simserve.cost.collectives import Collectives
from simserve.cost.kernels.roofline import Array, Kernel
from simserve.cost.timer import Chunk
from simserve.model.operators import (
    AttentionOperator,
    Operator,
    OperatorFamily,
    StageOperators,
    attended_keys,
    attended_pairs,
)

BOUNDS = ("compute", "bandwidth", "communication", "overhead")


class OperatorTime(NamedTuple):
    """One operator's share of a step.

    Attributes:
        operator: Its name.
        launches: Launches in the step.
        flops, moved_bytes: Of all launches, on one rank.
        seconds: Of all launches, overhead included.
        overhead_s: The part of `seconds` that is launch overhead.
        bound: What the rest of it waits for: one of `BOUNDS`.
    """

    operator: str
    launches: int
    flops: float
    moved_bytes: float
    seconds: float
    overhead_s: float
    bound: str


class ChunkRates(NamedTuple):
    """Attention time of all layers of one window size for a prefill chunk, and of their decodes.

    A chunk takes `max(pair_s * padded pairs + history_s * history, key_s * keys + query_s * tokens)`, a
    decoding request `decode_query_s` and `decode_key_s` a key: whichever of arithmetic and memory is
    slower, both linear in the context.
    """

    window: int
    pair_s: float
    history_s: float
    key_s: float
    query_s: float
    decode_key_s: float
    decode_query_s: float

    def chunk_s(self, tokens: int, history: int) -> float:
        """Seconds of a chunk of `tokens` after `history` cached tokens."""
        per_query = attended_pairs(tokens, history, self.window) / tokens + EXTRA_KEYS
        compute_s = self.pair_s * ((tokens + QUERY_PADDING) * per_query) + self.history_s * history
        memory_s = self.key_s * attended_keys(tokens, history, self.window) + self.query_s * tokens
        return compute_s if compute_s > memory_s else memory_s


@dataclass(frozen=True, slots=True)
class StageCost:
    """Operators of a stage, and the kernels that price them.

    Attributes:
        operators: Of one rank of the stage.
        gemm: GEMM kernel by compute dtype.
        elementwise, decode_attention, prefill_attention: Kernels of the other families.
        collectives: Of the stage's ranks.
    """

    operators: StageOperators
    gemm: dict[str, Kernel]
    elementwise: Kernel
    decode_attention: Kernel
    prefill_attention: Kernel
    collectives: Collectives

    def operator_s(self, operator: Operator, rows: Array) -> Array:
        """Seconds of one launch with `rows` rows, elementwise; 0 for no rows."""
        moved = operator.moved_bytes(rows)
        if operator.family is OperatorFamily.ALL_REDUCE:
            return self.collectives.all_reduce_s(moved)
        if operator.family is OperatorFamily.ALL_GATHER:
            return self.collectives.all_gather_s(moved)
        return self.kernel(operator).seconds(operator.flops(rows), moved)

    def kernel(self, operator: Operator) -> Kernel:
        """The kernel that prices a GEMM, experts or an elementwise operator."""
        return (
            self.elementwise if operator.family is OperatorFamily.ELEMENTWISE else self.gemm[operator.dtype]
        )

    def rows_s(self, operators: Sequence[Operator], rows: Array) -> Array:
        """Seconds of all launches of `operators` with `rows` rows, elementwise."""
        total = np.zeros_like(rows)
        for operator in operators:
            total += operator.count * self.operator_s(operator, rows)
        return total

    def attention_overhead_s(self) -> float:
        """Launches of attention in a step: one a layer, whatever the batch."""
        return self.decode_attention.overhead_s * sum(entry.layers for entry in self.operators.attention)

    def chunk_rates(self, attention: AttentionOperator) -> ChunkRates:
        """Rates of the attention of one window size."""
        decode, prefill, layers = self.decode_attention, self.prefill_attention, attention.layers
        return ChunkRates(
            window=attention.window,
            pair_s=layers * attention.prefill_flops_a_pair / prefill.flops_per_s,
            history_s=layers * attention.history_flops_a_token / prefill.flops_per_s,
            key_s=layers * attention.kv_bytes_a_token / prefill.bytes_per_s,
            query_s=layers * attention.query_bytes_a_token / prefill.bytes_per_s,
            decode_query_s=layers * attention.query_bytes_a_token / decode.bytes_per_s,
            decode_key_s=layers
            * max(
                attention.decode_flops_a_key / decode.flops_per_s,
                attention.kv_bytes_a_token / decode.bytes_per_s,
            ),
        )

    def step_times(
        self, decodes: int, context_tokens: int, window_tokens: int, chunks: Sequence[Chunk], samples: int
    ) -> list[OperatorTime]:
        """Every operator's time in one step; arguments as in `StepTimer.batch_ns`."""
        tokens = decodes + sum(chunk.tokens for chunk in chunks)
        rows = [self._row_time(operator, tokens) for operator in self.operators.token_operators]
        rows += [self._row_time(operator, samples) for operator in self.operators.sample_operators if samples]
        for attention in self.operators.attention:
            label = f"attention_window_{attention.window}" if attention.window else "attention"
            keys = window_tokens if attention.window else context_tokens
            if decodes:
                rows.append(self._decode_time(attention, f"{label}_decode", decodes, keys))
            if chunks:
                # One launch serves decodes and chunks.
                overhead_s = 0.0 if decodes else attention.layers * self.decode_attention.overhead_s
                rows.append(self._prefill_time(attention, f"{label}_prefill", chunks, overhead_s))
        return rows

    def bound_seconds(
        self, decodes: int, context_tokens: int, window_tokens: int, chunks: Sequence[Chunk], samples: int
    ) -> dict[str, float]:
        """Split one step's seconds by what they wait for: the keys are `BOUNDS`."""
        result = dict.fromkeys(BOUNDS, 0.0)
        for row in self.step_times(decodes, context_tokens, window_tokens, chunks, samples):
            result["overhead"] += row.overhead_s
            result[row.bound] += row.seconds - row.overhead_s
        return result

    def _row_time(self, operator: Operator, rows: int) -> OperatorTime:
        array = np.array([float(rows)])
        flops, moved = operator.flops(array), operator.moved_bytes(array)
        seconds = operator.count * float(self.operator_s(operator, array)[0])
        overhead_s, bound = 0.0, "communication"
        if operator.family not in (OperatorFamily.ALL_REDUCE, OperatorFamily.ALL_GATHER):
            kernel = self.kernel(operator)
            overhead_s = operator.count * kernel.overhead_s
            bound = "compute" if kernel.compute_s(flops)[0] > kernel.memory_s(moved)[0] else "bandwidth"
        total_flops, total_bytes = operator.count * float(flops[0]), operator.count * float(moved[0])
        return OperatorTime(
            operator.name, operator.count, total_flops, total_bytes, seconds, overhead_s, bound
        )

    def _decode_time(self, attention: AttentionOperator, name: str, decodes: int, keys: int) -> OperatorTime:
        overhead_s = attention.layers * self.decode_attention.overhead_s
        flops = attention.layers * attention.decode_flops_a_key * keys
        moved = attention.layers * (
            attention.kv_bytes_a_token * keys + attention.query_bytes_a_token * decodes
        )
        compute_s = flops / self.decode_attention.flops_per_s
        memory_s = moved / self.decode_attention.bytes_per_s
        bound = "compute" if compute_s > memory_s else "bandwidth"
        rates = self.chunk_rates(attention)
        seconds = overhead_s + rates.decode_query_s * decodes + rates.decode_key_s * keys
        return OperatorTime(name, attention.layers, flops, moved, seconds, overhead_s, bound)

    def _prefill_time(
        self, attention: AttentionOperator, name: str, chunks: Sequence[Chunk], overhead_s: float
    ) -> OperatorTime:
        rates, window, layers = self.chunk_rates(attention), attention.window, attention.layers
        flops = moved = seconds = memory_s = 0.0
        for tokens, history in chunks:
            pairs, keys = attended_pairs(tokens, history, window), attended_keys(tokens, history, window)
            flops += layers * (
                attention.prefill_flops_a_pair * pairs + attention.history_flops_a_token * history
            )
            moved += layers * (attention.kv_bytes_a_token * keys + attention.query_bytes_a_token * tokens)
            seconds += rates.chunk_s(tokens, history)
            memory_s += rates.key_s * keys + rates.query_s * tokens
        bound = "compute" if memory_s < seconds else "bandwidth"
        return OperatorTime(name, layers, flops, moved, overhead_s + seconds, overhead_s, bound)
