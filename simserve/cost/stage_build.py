"""Chooses what prices the operators of a pipeline stage, and says what its times rest on."""

from __future__ import annotations

from simserve.cost.attention_prices import KernelAttention
from simserve.cost.attention_tables import AttentionPrices, AttentionTables
from simserve.cost.calibration_note import CalibrationNote
from simserve.cost.collectives import Collectives
from simserve.cost.context_parallel import ContextParallelAttention
from simserve.cost.host import NO_HOST, HostTime
from simserve.cost.prices import OperatorPrices
from simserve.cost.stage_cost import StageCost
from simserve.cost.weight_offload import WeightOffload
from simserve.devices.accelerator import Accelerator
from simserve.model.operators import AttentionOperator, StageOperators
from simserve.model.precision import Precision


def build_stage_cost(
    operators: StageOperators,
    accelerator: Accelerator,
    prices: OperatorPrices,
    links: Collectives,
    host: HostTime = NO_HOST,
    offload: WeightOffload | None = None,
) -> StageCost:
    """Choose what prices a stage's operators.

    Args:
        operators: From `list_operators`.
        accelerator: Its peaks.
        prices: Of the operators whose work follows from the rows.
        links: Of the tensor-parallel ranks.
        host: Host time of a step.
        offload: Weights in host memory.
    """
    attention = tuple(
        AttentionTables(
            entry,
            _attention_prices(entry, prices, accelerator),
            accelerator.peak_for(entry.dtype),
            accelerator.memory_bandwidth_bytes_per_s,
        )
        for entry in operators.attention
    )
    return StageCost(operators, accelerator, prices, attention, links, host, offload)


def _attention_prices(
    entry: AttentionOperator, prices: OperatorPrices, accelerator: Accelerator
) -> AttentionPrices:
    book, architecture = prices.book, accelerator.architecture
    if entry.context_ranks == 1:
        return KernelAttention(entry, book, architecture)
    links = prices.collectives[entry.context_ranks]
    return ContextParallelAttention(entry, book, architecture, links)


def describe_calibration(prices: OperatorPrices, precision: Precision) -> CalibrationNote:
    """Return what a model's step times rest on: the kernels of its main GEMMs."""
    kernel = prices.gemm_kernel(precision.gemm_dtype)
    return CalibrationNote(kernel.tier, kernel.source, kernel.error_percent, "its GEMMs, by cross-validation")
