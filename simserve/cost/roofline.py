"""The analytic step timer: explicit operators, priced by calibrated rooflines, tabulated for speed.

It stands in the simulator's innermost loop, so what depends on the number of tokens alone is tabulated
once, and what depends on contexts is linear in them: a step costs a few additions and multiplications.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simserve.cost.calibration import EXTRA_KEYS, QUERY_PADDING, CalibrationNote
from simserve.cost.stage_cost import OperatorTime, StageCost
from simserve.cost.timer import Chunk

_NS = 1e9
# Tables grow by whole blocks, so that an entry's value does not depend on what was asked before.
_TABLE_BLOCK = 512
# From here on one numpy expression is faster than a loop (both give the same integers).
_ARRAY_STEPS = 24


class RooflineTimer:
    """Times the steps of one pipeline stage; a `StepTimer`.

    Every duration is `int(x + 0.5)` of a sum of non-negative float64 terms in ns, added in a fixed
    order, by Python or by numpy alike, so that one step and many steps agree to the bit.

    Attributes:
        calibration: What priced the steps, and its stated error.
    """

    __slots__ = (
        "_chunk_groups",
        "_cost",
        "_full_chunk",
        "_full_ns",
        "_query_ns",
        "_sample_ns",
        "_send_fixed_ns",
        "_send_token_ns",
        "_token_ns",
        "_window_ns",
        "calibration",
    )

    def __init__(self, cost: StageCost, calibration: CalibrationNote) -> None:
        self.calibration = calibration
        self._cost = cost
        # Index: tokens of the batch, and sampled rows; ns. The former carry the 0.5 of the rounding.
        self._token_ns: list[float] = []
        self._sample_ns: list[float] = []
        groups = [cost.chunk_rates(entry) for entry in cost.operators.attention]
        self._full_ns = _NS * sum(group.decode_key_s for group in groups if not group.window)
        self._window_ns = _NS * sum(group.decode_key_s for group in groups if group.window)
        self._query_ns = _NS * sum(group.decode_query_s for group in groups)
        full = next((group for group in groups if not group.window), None)
        self._full_chunk = (
            (_NS * full.pair_s, _NS * full.history_s, _NS * full.key_s, _NS * full.query_s)
            if full
            else (0.0, 0.0, 0.0, 0.0)
        )
        self._chunk_groups = tuple(group for group in groups if group.window)
        per_token = cost.operators.send_bytes_a_token
        self._send_fixed_ns = self._send_token_ns = 0.0
        if per_token:
            self._send_fixed_ns = _NS * cost.collectives.send_latency_s()
            self._send_token_ns = _NS * per_token * cost.collectives.send_s_a_byte()

    def decode_ns(self, decodes: int, context_tokens: int, window_tokens: int, steps: int) -> list[int]:
        """Durations of `steps` decode-only steps; see `StepTimer.decode_ns`."""
        try:
            base = self._token_ns[decodes] + self._sample_ns[decodes]
        except IndexError:
            base = self._extend(decodes, decodes)
        base += self._query_ns * decodes
        slope = self._full_ns
        window = self._window_ns * window_tokens
        if steps == 1:
            return [int(base + slope * context_tokens + window)]
        end = context_tokens + decodes * steps
        if steps < _ARRAY_STEPS:
            return [int(base + slope * context + window) for context in range(context_tokens, end, decodes)]
        contexts = np.arange(context_tokens, end, decodes, dtype=np.float64)
        durations: list[int] = (base + slope * contexts + window).astype(np.int64).tolist()
        return durations

    def batch_ns(
        self, decodes: int, context_tokens: int, window_tokens: int, chunks: list[Chunk], samples: int
    ) -> int:
        """Duration of one step with prefill chunks; see `StepTimer.batch_ns`."""
        tokens = decodes
        chunk_ns = 0.0
        pair_ns, history_ns, key_ns, query_ns = self._full_chunk
        for length, history in chunks:
            tokens += length
            # The full-attention form of ChunkRates.chunk_s, written out: it is called for every chunk.
            mean_keys = history + 0.5 * (length + 1)
            compute = pair_ns * ((length + QUERY_PADDING) * (mean_keys + EXTRA_KEYS)) + history_ns * history
            memory = key_ns * (history + length) + query_ns * length
            chunk_ns += compute if compute > memory else memory
        for group in self._chunk_groups:
            for length, history in chunks:
                chunk_ns += _NS * group.chunk_s(length, history)
        try:
            base = self._token_ns[tokens] + self._sample_ns[samples]
        except IndexError:
            base = self._extend(tokens, samples)
        base += self._query_ns * decodes
        return int(base + self._full_ns * context_tokens + self._window_ns * window_tokens + chunk_ns)

    def send_ns(self, tokens: int) -> int:
        """Time to hand the activations of `tokens` to the next stage; 0 in the last."""
        return int(self._send_fixed_ns + self._send_token_ns * tokens + 0.5)

    def explain(
        self, decodes: int, context_tokens: int, window_tokens: int, chunks: Sequence[Chunk], samples: int
    ) -> list[OperatorTime]:
        """One row an operator of that step; their seconds add up to `batch_ns`."""
        return self._cost.step_times(decodes, context_tokens, window_tokens, chunks, samples)

    def bound_seconds(
        self, decodes: int, context_tokens: int, window_tokens: int, chunks: Sequence[Chunk], samples: int
    ) -> dict[str, float]:
        """The step's seconds by what they wait for: compute, bandwidth, communication, overhead."""
        return self._cost.bound_seconds(decodes, context_tokens, window_tokens, chunks, samples)

    def _extend(self, tokens: int, samples: int) -> float:
        """Grow the tables to hold both indices; return the base duration of that step in ns."""
        cost = self._cost
        fixed_s = cost.attention_overhead_s()
        while tokens >= len(self._token_ns):
            rows = _next_rows(self._token_ns)
            seconds = cost.rows_s(cost.operators.token_operators, rows) + fixed_s
            self._token_ns += (_NS * seconds + 0.5).tolist()
        while samples >= len(self._sample_ns):
            rows = _next_rows(self._sample_ns)
            self._sample_ns += (_NS * cost.rows_s(cost.operators.sample_operators, rows)).tolist()
        return self._token_ns[tokens] + self._sample_ns[samples]


def _next_rows(table: list[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.arange(len(table), len(table) + _TABLE_BLOCK, dtype=np.float64)
