"""The analytic step timer: explicit operators, priced by calibrated kernel models, tabulated for speed.

It stands in the simulator's innermost loop, so what depends on the number of tokens alone is tabulated
once, and attention is piecewise linear in the contexts: a step costs a few look-ups and additions.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from simserve.cost.attention_tables import CONTEXT_KNOTS
from simserve.cost.calibration_note import CalibrationNote
from simserve.cost.context_line import ContextLine
from simserve.cost.grid import PairGrid, chunks_s
from simserve.cost.operator_time import OperatorTime
from simserve.cost.stage_cost import StageCost
from simserve.cost.step_breakdown import StepBreakdown
from simserve.cost.timer import Chunk

_NS = 1e9
# Tables grow by whole blocks, so that an entry's value does not depend on what was asked before.
_TABLE_BLOCK = 512
# From here on one numpy expression is faster than a loop (both give the same integers).
_ARRAY_STEPS = 24


class RooflineTimer:
    """Times the steps of one pipeline stage; a `StepTimer`.

    Every duration is the integer part of a sum of float64 terms in ns, added in a fixed order, by Python or
    by numpy alike, so that one step and many steps agree to the bit.

    Attributes:
        calibration: What priced the steps, and its stated error.
    """

    __slots__ = (
        "_breakdown",
        "_chunk_grids", "_cost", "_decode_lines", "_graph_end", "_has_windows", "_hidden_ns",
        "_hidden_sequence_ns", "_host_ns", "_host_sequence_ns", "_launch_ns", "_mixed_lines", "_sample_ns",
        "_send_fixed_ns", "_send_token_ns", "_token_ns", "_weight_reads_ns", "_window_lines",
        "_window_mixed_lines", "calibration",
    )  # fmt: skip

    def __init__(self, cost: StageCost, calibration: CalibrationNote) -> None:
        self.calibration = calibration
        self._cost = cost
        self._breakdown = StepBreakdown(cost)
        # Index: tokens of the batch, and sampled rows; ns. The former carry the 0.5 of the rounding.
        self._token_ns: list[float] = []
        self._sample_ns: list[float] = []
        # By number of decodes. Whole steps that only decode; what decodes add to a step with chunks; and the
        # layers with a window, in both.
        self._decode_lines: dict[int, ContextLine] = {}
        self._mixed_lines: dict[int, ContextLine] = {}
        self._window_lines: dict[int, ContextLine] = {}
        self._window_mixed_lines: dict[int, ContextLine] = {}
        self._chunk_grids: list[PairGrid] = []
        # By number of tokens.
        self._weight_reads_ns: dict[int, int] = {}
        self._has_windows = any(tables.operator.window for tables in cost.attention)
        host = cost.host
        self._host_ns, self._host_sequence_ns = _NS * host.step_s, _NS * host.sequence_s
        self._hidden_ns, self._hidden_sequence_ns = _NS * host.hidden_step_s, _NS * host.hidden_sequence_s
        self._launch_ns = _NS * host.launch_s * cost.launches()
        self._graph_end = host.graph_sizes[-1] if host.graph_sizes else 0
        per_token = cost.operators.send_bytes_a_token
        self._send_fixed_ns = self._send_token_ns = 0.0
        if per_token:
            self._send_fixed_ns = _NS * cost.links.send_latency_s()
            self._send_token_ns = _NS * per_token * cost.links.send_s_a_byte()

    @property
    def cost(self) -> StageCost:
        """What is priced, and by what."""
        return self._cost

    def decode_ns(self, decodes: int, context_tokens: int, window_tokens: int, steps: int) -> list[int]:
        """Durations of `steps` decode-only steps; see `StepTimer.decode_ns`."""
        line = self._decode_lines.get(decodes)
        if line is None:
            line = self._add_decodes(decodes)
        least, bounds = line.least, line.bounds
        piece = bisect_right(bounds, context_tokens)
        windows = self._window_lines[decodes].at(window_tokens) if self._has_windows else 0.0
        if steps == 1:
            duration = int(line.starts[piece] + line.slopes[piece] * context_tokens + windows)
            return [duration if duration > least else least]
        context, end = context_tokens, context_tokens + decodes * steps
        if steps < _ARRAY_STEPS and (piece == len(bounds) or end - decodes < bounds[piece]):
            start, slope = line.starts[piece], line.slopes[piece]
            durations = [int(start + slope * at + windows) for at in range(context, end, decodes)]
        else:
            durations = self._decode_pieces(line, context, end, decodes, windows)
        if durations[0] < least:
            return [duration if duration > least else least for duration in durations]
        return durations

    def _decode_pieces(
        self, line: ContextLine, context: int, end: int, decodes: int, windows: float
    ) -> list[int]:
        """Durations of steps from `context` up to `end`, piece by piece of a line."""
        bounds = line.bounds
        durations: list[int] = []
        while context < end:
            piece = bisect_right(bounds, context)
            # The steps that lie in one piece of the line.
            upto = end
            if piece < len(bounds) and bounds[piece] < end:
                upto = context - ((context - bounds[piece]) // decodes) * decodes
            start, slope = line.starts[piece], line.slopes[piece]
            if upto - context < _ARRAY_STEPS * decodes:
                durations += [int(start + slope * at + windows) for at in range(context, upto, decodes)]
            else:
                contexts = np.arange(context, upto, decodes, dtype=np.float64)
                durations += (start + slope * contexts + windows).astype(np.int64).tolist()
            context = upto
        return durations

    def batch_ns(
        self, decodes: int, context_tokens: int, window_tokens: int, chunks: list[Chunk], samples: int
    ) -> int:
        """Duration of one step with prefill chunks; see `StepTimer.batch_ns`."""
        if not chunks and samples == decodes:
            return self.decode_ns(decodes, context_tokens, window_tokens, 1)[0]
        tokens, sequences = decodes, decodes + len(chunks)
        for length, _ in chunks:
            tokens += length
        if tokens >= len(self._token_ns) or samples >= len(self._sample_ns):
            self._extend(tokens, samples)
        shown = self._host_ns + self._host_sequence_ns * sequences
        total = self._token_ns[tokens] + self._sample_ns[samples] + shown
        if chunks:
            for grid in self._chunk_grids or self._add_grids():
                total += _NS * chunks_s(grid, chunks)
        if decodes:
            mixed = self._mixed_lines if chunks else self._decode_lines
            line = mixed.get(decodes)
            if line is None:
                line = self._add_mixed(decodes) if chunks else self._add_decodes(decodes)
            total += line.at(context_tokens)
            if not chunks:
                total -= self._decode_base_ns(decodes)
            if self._has_windows:
                windows = self._window_mixed_lines if chunks else self._window_lines
                total += windows[decodes].at(window_tokens)
        least = self._least_ns(tokens, sequences)
        duration = int(total)
        return duration if duration > least else least

    def send_ns(self, tokens: int) -> int:
        """Time to hand the activations of `tokens` to the next stage; 0 in the last."""
        return int(self._send_fixed_ns + self._send_token_ns * tokens + 0.5)

    def weight_reads_ns(self, tokens: int) -> int:
        """For how long weights in host memory have the path from there in a step of `tokens` tokens."""
        if tokens not in self._weight_reads_ns:
            self._weight_reads_ns[tokens] = int(_NS * self._cost.weight_reads_s(tokens) + 0.5)
        return self._weight_reads_ns[tokens]

    def explain(
        self, decodes: int, context_tokens: int, window_tokens: int, chunks: Sequence[Chunk], samples: int
    ) -> list[OperatorTime]:
        """One row an operator of that step; their seconds add up to `batch_ns`."""
        return self._breakdown.operator_times(decodes, context_tokens, window_tokens, chunks, samples)

    def bound_seconds(
        self, decodes: int, context_tokens: int, window_tokens: int, chunks: Sequence[Chunk], samples: int
    ) -> dict[str, float]:
        """The step's seconds by what they wait for: compute, bandwidth, communication, overhead."""
        return self._breakdown.bound_seconds(decodes, context_tokens, window_tokens, chunks, samples)

    def _add_grids(self) -> list[PairGrid]:
        """Tabulate prefill chunks: a grid for each window size."""
        self._chunk_grids = [tables.chunk for tables in self._cost.attention]
        return self._chunk_grids

    def _least_ns(self, tokens: int, sequences: int) -> int:
        """The shortest step that the host allows; as `StageCost.least_s` and the host's own time."""
        least = self._hidden_ns + self._hidden_sequence_ns * sequences
        if tokens > self._graph_end:
            least += self._launch_ns
        return int(least + self._host_ns + self._host_sequence_ns * sequences + 0.5)

    def _decode_base_ns(self, decodes: int) -> float:
        """What does not depend on contexts in a step of `decodes` decodes."""
        if decodes >= len(self._token_ns) or decodes >= len(self._sample_ns):
            self._extend(decodes, decodes)
        base = self._token_ns[decodes] + self._sample_ns[decodes]
        return base + self._host_ns + self._host_sequence_ns * decodes

    def _extend(self, tokens: int, samples: int) -> None:
        """Grow the tables to hold both indices."""
        cost = self._cost
        while tokens >= len(self._token_ns):
            rows = cost.padded(_next_rows(self._token_ns))
            self._token_ns += (_NS * cost.rows_s(cost.operators.token_operators, rows) + 0.5).tolist()
        while samples >= len(self._sample_ns):
            rows = _next_rows(self._sample_ns)
            self._sample_ns += (_NS * cost.rows_s(cost.operators.sample_operators, rows)).tolist()

    def _add_decodes(self, decodes: int) -> ContextLine:
        """Tabulate steps of one more number of decodes."""
        full, windows = self._attention_s(decodes, False)
        least = self._least_ns(decodes, decodes)
        line = ContextLine(decodes, full, self._decode_base_ns(decodes), least)
        self._decode_lines[decodes] = line
        if self._has_windows:
            self._window_lines[decodes] = ContextLine(decodes, windows, 0.0, 0)
        return line

    def _add_mixed(self, decodes: int) -> ContextLine:
        """Tabulate what one more number of decodes adds to steps with chunks."""
        full, windows = self._attention_s(decodes, True)
        line = ContextLine(decodes, full, 0.0, 0)
        self._mixed_lines[decodes] = line
        if self._has_windows:
            self._window_mixed_lines[decodes] = ContextLine(decodes, windows, 0.0, 0)
        return line

    def _attention_s(self, decodes: int, mixed: bool) -> tuple[list[float], list[float]]:
        """Seconds at `CONTEXT_KNOTS` of full attention, and of the layers with a window."""
        full, windows = [0.0] * len(CONTEXT_KNOTS), [0.0] * len(CONTEXT_KNOTS)
        for tables in self._cost.attention:
            part = windows if tables.operator.window else full
            for index, seconds in enumerate(tables.decode_row(decodes, mixed=mixed)):
                part[index] += seconds
        return full, windows


def _next_rows(table: list[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.arange(len(table), len(table) + _TABLE_BLOCK, dtype=np.float64)
