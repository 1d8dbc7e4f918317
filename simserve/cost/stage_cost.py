"""Prices the operators of one pipeline stage on one accelerator: the slow, explicit path behind the timer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from simserve.cost.attention_tables import AttentionTables
from simserve.cost.collectives import Collectives
from simserve.cost.grid import Array, ascending
from simserve.cost.host import NO_HOST, HostTime
from simserve.cost.prices import OperatorPrices
from simserve.cost.weight_offload import WeightOffload
from simserve.devices.accelerator import Accelerator
from simserve.model.operators import (
    Operator,
    StageOperators,
)


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
