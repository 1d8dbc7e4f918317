"""Prices the operators of one pipeline stage on one accelerator: the slow, explicit path behind the timer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from simserve.cost.attention_tables import CONTEXT_KNOTS, AttentionTables
from simserve.cost.collectives import Collectives
from simserve.cost.fitted_kernel import FittedKernel
from simserve.cost.grid import Array, ascending, chunks_s, extend_linearly
from simserve.cost.host import NO_HOST, HostTime
from simserve.cost.prices import OperatorPrices
from simserve.cost.timer import Chunk
from simserve.cost.weight_offload import WeightOffload
from simserve.devices.accelerator import Accelerator
from simserve.model.operators import (
    Operator,
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
        overhead_s: The part of `seconds` that neither the peak rates nor the links explain.
        bound: What the rest of it waits for: one of `BOUNDS`.
        family: Kernel family ("gemm", "decode_attention", "all_reduce", "host", ...).
        dtype: Dtype of its arithmetic, a key of `Accelerator.peak_flops`.
        ideal_s: Seconds of all launches at the datasheet's peaks.
        tier, source, error_percent: What its constants rest on, and the stated error of that.
    """

    operator: str
    launches: int
    flops: float
    moved_bytes: float
    seconds: float
    overhead_s: float
    bound: str
    family: str = ""
    dtype: str = ""
    ideal_s: float = 0.0
    tier: str = ""
    source: str = ""
    error_percent: float | None = None


def _row_knots() -> Array:
    """Batch sizes at which kernels are priced: as CUDA graphs are captured, then ever more sparsely."""
    fine = [0, 1, 2, 4, *range(8, 256, 8), *range(256, 512, 16)]
    coarse = [*range(512, 2048, 64), *range(2048, 8192, 256), *range(8192, 65536, 2048)]
    return np.array([*fine, *coarse, *range(65536, 2**20 + 1, 32768)], np.float64)


ROW_KNOTS = _row_knots()


@dataclass(frozen=True, slots=True)
class StageCost:
    """Operators of a stage, and what prices them.

    Attributes:
        operators: Of one rank of the stage.
        accelerator: Of every rank.
        prices: Of the operators whose work follows from the rows.
        attention: One entry for each of `operators.attention`.
        links: Of the stage's tensor-parallel ranks, and to the next stage.
        host: Host time of a step.
        offload: Weights that lie in host memory; None: none.
    """

    operators: StageOperators
    accelerator: Accelerator
    prices: OperatorPrices
    attention: tuple[AttentionTables, ...]
    links: Collectives
    host: HostTime = NO_HOST
    offload: WeightOffload | None = None
    _tables: dict[Operator, Array] = field(default_factory=dict)

    def table(self, operator: Operator) -> Array:
        """Seconds of one launch at `ROW_KNOTS` rows; they never fall, and never beat the peaks."""
        if operator not in self._tables:
            seconds = self.prices.seconds(operator, ROW_KNOTS)
            if not operator.family.is_collective:
                compute_s = operator.flops(ROW_KNOTS) / self.accelerator.peak_for(operator.dtype)
                memory_s = operator.moved_bytes(ROW_KNOTS) / self.accelerator.memory_bandwidth_bytes_per_s
                seconds = np.maximum(seconds, np.maximum(compute_s, memory_s))
            if self.offload is not None and operator in self.operators.token_operators:
                seconds = self.offload.slowed_s(operator, ROW_KNOTS, seconds)
            self._tables[operator] = ascending(seconds)
        return self._tables[operator]

    def rows_s(self, operators: Sequence[Operator], rows: Array) -> Array:
        """Seconds of all launches of `operators` with `rows` rows, elementwise; linear between knots."""
        total = np.zeros_like(ROW_KNOTS)
        for operator in operators:
            total += operator.count * self.table(operator)
        return np.interp(rows, ROW_KNOTS, total)

    def padded(self, tokens: Array) -> Array:
        """Tokens that a step of `tokens` runs: the next captured batch size where there is one."""
        sizes = np.array(self.host.graph_sizes or (0,), np.float64)
        place = np.minimum(np.searchsorted(sizes, tokens), len(sizes) - 1)
        return np.where((tokens > 0) & (tokens <= sizes[-1]), sizes[place], tokens)

    def weight_reads_s(self, tokens: int) -> float:
        """For how long weights in host memory have the path from there in a step of `tokens` tokens."""
        if self.offload is None:
            return 0.0
        rows = self.padded(np.array([float(tokens)]))
        return float(self.offload.step_reads_s(self.operators.token_operators, rows)[0])

    def launches(self) -> int:
        """Kernels that one step launches."""
        listed = (*self.operators.token_operators, *self.operators.sample_operators)
        return sum(operator.count for operator in listed) + sum(
            entry.layers for entry in self.operators.attention
        )

    def least_s(self, tokens: int, sequences: int) -> float:
        """The host's share that runs beside the accelerator: a step is at least this long."""
        host = self.host
        hidden_s = host.hidden_step_s + host.hidden_sequence_s * sequences
        replayed = bool(host.graph_sizes) and tokens <= host.graph_sizes[-1]
        return hidden_s + (0.0 if replayed else host.launch_s * self.launches())

    def step_times(
        self, decodes: int, context_tokens: int, window_tokens: int, chunks: Sequence[Chunk], samples: int
    ) -> list[OperatorTime]:
        """Every operator's time in one step; arguments as in `StepTimer.batch_ns`."""
        tokens = decodes + sum(chunk.tokens for chunk in chunks)
        padded = int(self.padded(np.array([float(tokens)]))[0])
        rows = [self._row_time(operator, padded) for operator in self.operators.token_operators]
        rows += [self._row_time(operator, samples) for operator in self.operators.sample_operators if samples]
        for tables in self.attention:
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
        for row in self.step_times(decodes, context_tokens, window_tokens, chunks, samples):
            result["overhead"] += row.overhead_s
            result[row.bound] += row.seconds - row.overhead_s
        return result

    def _row_time(self, operator: Operator, rows: int) -> OperatorTime:
        array = np.array([float(rows)])
        launches = operator.count
        flops, moved = (
            launches * float(operator.flops(array)[0]),
            launches * float(operator.moved_bytes(array)[0]),
        )
        seconds = launches * float(np.interp(array, ROW_KNOTS, self.table(operator))[0])
        family = str(operator.family)
        if operator.family.is_collective:
            links = self.prices.collectives[operator.ranks]
            message = operator.moved_bytes(array)
            ideal_s = launches * float(links.ideal_s(family, message)[0])
            tier, source, error = links.provenance(family, message)
            return OperatorTime(
                operator.name, launches, flops, moved, seconds, 0.0, "communication", family, operator.dtype,
                ideal_s, tier, source, error,
            )  # fmt: skip
        kernel = self.prices.kernel(operator)
        timed = self._timed(
            operator.name, launches, flops, moved, seconds, family, operator.dtype, kernel,
            kernel.provenance(self.prices.shapes(operator, array)),
        )  # fmt: skip
        if self.offload is not None and operator in self.operators.token_operators:
            reads_s = float(self.offload.step_reads_s([operator], array)[0])
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
        compute_s = flops / self.accelerator.peak_for(dtype)
        memory_s = moved / self.accelerator.memory_bandwidth_bytes_per_s
        overhead_s = min(seconds, launches * kernel.constants.get("overhead_s", 0.0))
        return OperatorTime(
            name, launches, flops, moved, seconds, overhead_s,
            "compute" if compute_s > memory_s else "bandwidth", family, dtype, max(compute_s, memory_s),
            *provenance,
        )  # fmt: skip

    def _host_times(self, device_s: float, tokens: int, sequences: int) -> list[OperatorTime]:
        """What the host adds: its own time where the accelerator waits, launches where they are slower."""
        shown_s = self.host.step_s + self.host.sequence_s * sequences
        behind_s = max(0.0, self.least_s(tokens, sequences) - device_s)
        return [
            OperatorTime(
                name, 1, 0.0, 0.0, seconds, seconds, "overhead", "host", "", 0.0, "given", "engine profile"
            )
            for name, seconds in (("host", shown_s), ("wait_for_host", behind_s))
            if seconds
        ]
