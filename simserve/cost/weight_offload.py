"""Weights that lie in host memory: kernels read them over PCIe in every step (vLLM's `cpu_offload_gb`).

vLLM gives GPU kernels a view of pinned host memory (UVA; `vllm/model_executor/offloader/uva.py`), layer by
layer and weight by weight until so many bytes are reached. Nothing is copied ahead, so a matrix
multiplication takes the longer of its own time and of its weights' way over PCIe. Embedding and LM head
stay on the GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simserve.cost.grid import Array
from simserve.model.operators import Operator, OperatorFamily

# Those that read weights of layers; the few bytes of norms are left out.
_WEIGHT_FAMILIES = (OperatorFamily.GEMM, OperatorFamily.EXPERTS)


@dataclass(frozen=True, slots=True)
class WeightOffload:
    """How much of a stage's layers lies in host memory.

    Attributes:
        share: Of the bytes of its layers' weights.
        bytes_per_s: PCIe's rate in one direction.
    """

    share: float
    bytes_per_s: float

    def slowed_s(self, operator: Operator, rows: Array, seconds: Array) -> Array:
        """Return the mean seconds of a launch over all layers, given those with weights on the GPU."""
        read_s = self._read_s(operator, rows)
        return (1.0 - self.share) * seconds + self.share * np.maximum(seconds, read_s)

    def step_reads_s(self, operators: Sequence[Operator], rows: Array) -> Array:
        """Return for how long the weights of a step of `rows` rows have the path from the host."""
        total = np.zeros_like(rows)
        for operator in operators:
            total += operator.count * self.share * self._read_s(operator, rows)
        return total

    def _read_s(self, operator: Operator, rows: Array) -> Array:
        if operator.family not in _WEIGHT_FAMILIES:
            return np.zeros_like(rows)
        weights = operator.moved_bytes(rows) - operator.bytes_a_row * rows
        return weights / self.bytes_per_s


def plan_offload(offload_bytes: float, layer_bytes: float, pcie_bytes_per_s: float) -> WeightOffload | None:
    """Return what of a stage lies in host memory; None for nothing.

    Args:
        offload_bytes: As many bytes of each rank, if its layers have them.
        layer_bytes: Weights of the stage's layers on one rank.
        pcie_bytes_per_s: The accelerator's.
    """
    if not offload_bytes:
        return None
    return WeightOffload(min(1.0, offload_bytes / layer_bytes), pcie_bytes_per_s)
