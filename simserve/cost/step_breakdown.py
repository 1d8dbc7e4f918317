"""What one step is made of: the explicit path beside the tables of the timer, for people and reports."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simserve.cost.attention_tables import CONTEXT_KNOTS, AttentionTables
from simserve.cost.fitted_kernel import FittedKernel
from simserve.cost.grid import chunks_s, extend_linearly
from simserve.cost.operator_time import BOUNDS, OperatorTime
from simserve.cost.stage_cost import ROW_KNOTS, StageCost
from simserve.cost.timer import Chunk
from simserve.model.operators import Operator, attended_keys, attended_pairs


class StepBreakdown:
    """Times the operators of a stage one by one.

    Args:
        cost: The stage.
    """

    def __init__(self, cost: StageCost) -> None:
        self._cost = cost
        self._row_times_of: dict[tuple[bool, int], list[OperatorTime]] = {}

    def operator_times(
        self, decodes: int, context_tokens: int, window_tokens: int, chunks: Sequence[Chunk], samples: int
    ) -> list[OperatorTime]:
        """Every operator's time in one step; arguments as in `StepTimer.batch_ns`."""
        cost = self._cost
        tokens = decodes + sum(chunk.tokens for chunk in chunks)
        padded = int(cost.padded(np.array([float(tokens)]))[0])
        rows = [*self._row_times(cost.operators.token_operators, padded)]
        if samples:
            rows += self._row_times(cost.operators.sample_operators, samples)
        for tables in cost.attention:
            keys = window_tokens if tables.operator.window else context_tokens
            if decodes:
                rows.append(self._decode_time(tables, decodes, keys, mixed=bool(chunks)))
            if chunks:
                rows.append(self._prefill_time(tables, chunks))
        return rows + self._host_times(sum(row.seconds for row in rows), tokens, decodes + len(chunks))

    def bound_seconds(
        self, decodes: int, context_tokens: int, window_tokens: int, chunks: Sequence[Chunk], samples: int
    ) -> dict[str, float]:
        """Split one step's seconds by what they wait for: the keys are `BOUNDS`."""
        result = dict.fromkeys(BOUNDS, 0.0)
        for row in self.operator_times(decodes, context_tokens, window_tokens, chunks, samples):
            result["overhead"] += row.overhead_s
            result[row.bound] += row.seconds - row.overhead_s
        return result

    def _row_times(self, operators: tuple[Operator, ...], rows: int) -> list[OperatorTime]:
        """The times of either kind of operators: a run's steps have few different numbers of rows."""
        key = (operators is self._cost.operators.sample_operators, rows)
        if key not in self._row_times_of:
            self._row_times_of[key] = [self._row_time(operator, rows) for operator in operators]
        return self._row_times_of[key]

    def _row_time(self, operator: Operator, rows: int) -> OperatorTime:
        cost = self._cost
        array = np.array([float(rows)])
        launches = operator.count
        flops, moved = (
            launches * float(operator.flops(array)[0]),
            launches * float(operator.moved_bytes(array)[0]),
        )
        seconds = launches * float(np.interp(array, ROW_KNOTS, cost.table(operator))[0])
        family = str(operator.family)
        if operator.family.is_collective:
            links = cost.prices.collectives[operator.ranks]
            message = operator.moved_bytes(array)
            ideal_s = launches * float(links.ideal_s(family, message)[0])
            tier, source, error = links.provenance(family, message)
            return OperatorTime(
                operator.name, launches, flops, moved, seconds, 0.0, "communication", family, operator.dtype,
                ideal_s, tier, source, error,
            )  # fmt: skip
        kernel = cost.prices.kernel(operator)
        timed = self._timed(
            operator.name, launches, flops, moved, seconds, family, operator.dtype, kernel,
            kernel.provenance(cost.prices.shapes(operator, array)),
        )  # fmt: skip
        if cost.offload is not None and operator in cost.operators.token_operators:
            reads_s = float(cost.offload.step_reads_s([operator], array)[0])
            if reads_s > seconds / 2:
                return timed._replace(bound="communication")
        return timed

    def _decode_time(self, tables: AttentionTables, decodes: int, keys: int, *, mixed: bool) -> OperatorTime:
        operator = tables.operator
        moved = operator.kv_bytes_a_token * keys + operator.query_bytes_a_token * decodes
        seconds = extend_linearly(keys / decodes, CONTEXT_KNOTS, tables.decode_row(decodes, mixed=mixed))
        flops = operator.decode_flops_a_key * keys
        return self._attention_time(tables, "decode", flops, moved, seconds, (decodes, keys / decodes))

    def _prefill_time(self, tables: AttentionTables, chunks: Sequence[Chunk]) -> OperatorTime:
        operator, window = tables.operator, tables.operator.window
        flops = moved = 0.0
        for tokens, history in chunks:
            keys = attended_keys(tokens, history, window)
            flops += operator.prefill_flops_a_pair * attended_pairs(tokens, history, window)
            flops += operator.history_flops_a_token * history
            moved += operator.kv_bytes_a_token * keys + operator.query_bytes_a_token * tokens
        seconds = chunks_s(tables.chunk, chunks)
        return self._attention_time(tables, "prefill", flops, moved, seconds, chunks[0])

    def _attention_time(
        self,
        tables: AttentionTables,
        phase: str,
        flops: float,
        moved: float,
        seconds: float,
        sizes: tuple[int, float],
    ) -> OperatorTime:
        operator, layers = tables.operator, tables.operator.layers
        label = f"attention_window_{operator.window}" if operator.window else "attention"
        family = "mla" if operator.latent_dim else f"{phase}_attention"
        return self._timed(
            f"{label}_{phase}", layers, layers * flops, layers * moved, seconds, family, operator.dtype,
            tables.prices.kernel(phase), tables.prices.provenance(phase, *sizes),
        )  # fmt: skip

    def _timed(
        self,
        name: str,
        launches: int,
        flops: float,
        moved: float,
        seconds: float,
        family: str,
        dtype: str,
        kernel: FittedKernel,
        provenance: tuple[str, str, float | None],
    ) -> OperatorTime:
        """Compare a kernel's seconds with the datasheet's peaks."""
        cost = self._cost
        compute_s = flops / cost.accelerator.peak_for(dtype)
        memory_s = moved / cost.accelerator.memory_bandwidth_bytes_per_s
        overhead_s = min(seconds, launches * kernel.constants.get("overhead_s", 0.0))
        return OperatorTime(
            name, launches, flops, moved, seconds, overhead_s,
            "compute" if compute_s > memory_s else "bandwidth", family, dtype, max(compute_s, memory_s),
            *provenance,
        )  # fmt: skip

    def _host_times(self, device_s: float, tokens: int, sequences: int) -> list[OperatorTime]:
        """What the host adds: its own time where the accelerator waits, launches where they are slower."""
        cost = self._cost
        shown_s = cost.host.step_s + cost.host.sequence_s * sequences
        behind_s = max(0.0, cost.least_s(tokens, sequences) - device_s)
        return [
            OperatorTime(
                name, 1, 0.0, 0.0, seconds, seconds, "overhead", "host", "", 0.0, "given", "engine profile"
            )
            for name, seconds in (("host", shown_s), ("wait_for_host", behind_s))
            if seconds
        ]
