"""Builds the step timers of an instance: one a pipeline stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from simserve.cost.calibration import (
    GENERIC_ELEMENTWISE,
    GENERIC_PREFILL_ATTENTION,
    Calibration,
    CalibrationNote,
    read_calibration,
)
from simserve.cost.collectives import Collectives, build_collectives
from simserve.cost.kernels.roofline import Kernel, build_kernel
from simserve.cost.roofline import RooflineTimer
from simserve.cost.simple import ConstantTimer, LinearTimer
from simserve.cost.stage_cost import OperatorTime, StageCost
from simserve.cost.timer import Chunk, StepTimer
from simserve.devices.accelerator import Accelerator
from simserve.errors import InputError, UnknownNameError
from simserve.model.operators import StageOperators
from simserve.model.precision import Precision, resolve_precision
from simserve.model.shape import ModelShape
from simserve.model.stage import split_stages
from simserve.model.stage_operators import list_operators

KINDS = ("analytic", "constant", "linear")


class ExplainableTimer(StepTimer, Protocol):
    """A `StepTimer` that can say what its times are made of."""

    calibration: CalibrationNote

    def explain(
        self, decodes: int, context_tokens: int, window_tokens: int, chunks: Sequence[Chunk], samples: int
    ) -> list[OperatorTime]:
        """One row an operator of that step."""

    def bound_seconds(
        self, decodes: int, context_tokens: int, window_tokens: int, chunks: Sequence[Chunk], samples: int
    ) -> dict[str, float]:
        """The step's seconds by what they wait for."""


@dataclass(frozen=True, slots=True)
class CostSpec:
    """How steps are timed; the scenario's key `cost`.

    Attributes:
        kind: "analytic" (operators on a roofline), "constant" (`base_s` a step) or "linear".
        base_s: Seconds of any step (constant and linear). With a pipeline: of each stage.
        per_prefill_token_s, per_decode_s, per_context_token_s: Linear only; see `LinearTimer`.
    """

    kind: str = "analytic"
    base_s: float = 0.0
    per_prefill_token_s: float = 0.0
    per_decode_s: float = 0.0
    per_context_token_s: float = 0.0


def build_timers(
    spec: CostSpec,
    shape: ModelShape,
    accelerator: Accelerator,
    *,
    tensor_parallel_size: int = 1,
    pipeline_parallel_size: int = 1,
    dtype: str | None = None,
    quantization: str | None = None,
    kv_cache_dtype: str | None = None,
    calibration: Mapping[str, Any] | None = None,
) -> list[ExplainableTimer]:
    """Build one timer a pipeline stage. Instances of the same kind can share them.

    Args:
        spec: Which kind, and its coefficients.
        shape: The model.
        accelerator: What each rank runs on.
        tensor_parallel_size, pipeline_parallel_size: Ranks a stage, and stages.
        dtype, quantization, kv_cache_dtype: vLLM's options; None is "auto".
        calibration: The mapping of the accelerator's calibration file; None: generic efficiencies.

    Raises:
        InputError: If the kind is unknown, a coefficient is out of range, or the model cannot be split.
    """
    if spec.kind not in KINDS:
        raise UnknownNameError("cost kind", spec.kind, KINDS)
    stages = split_stages(shape.num_layers, pipeline_parallel_size)
    if spec.kind != "analytic":
        return [_simple_timer(spec) for _ in stages]
    precision = resolve_precision(
        shape,
        dtype=dtype,
        quantization=quantization,
        kv_cache_dtype=kv_cache_dtype,
        native_dtypes=frozenset(accelerator.peak_flops),
    )
    constants = read_calibration(accelerator.name, calibration)
    collectives = build_collectives(
        accelerator,
        tensor_parallel_size,
        pipeline_parallel_size,
        constants.all_reduce.get(tensor_parallel_size),
    )
    note = constants.note(gemm_key(precision))
    return [
        RooflineTimer(
            build_stage_cost(
                list_operators(shape, stage, precision, tensor_parallel_size),
                precision,
                accelerator,
                constants,
                collectives,
            ),
            note,
        )
        for stage in stages
    ]


def _simple_timer(spec: CostSpec) -> LinearTimer:
    rates = (spec.base_s, spec.per_prefill_token_s, spec.per_decode_s, spec.per_context_token_s)
    if not all(0 <= rate < float("inf") for rate in rates):
        raise InputError(f"cost: seconds must be 0 or more and finite, got {rates}")
    if not any(rates):
        raise InputError("cost: expected base_s or another coefficient above 0; a step must take time")
    if spec.kind == "linear":
        return LinearTimer(*rates)
    if any(rates[1:]):
        raise InputError("cost: kind constant takes base_s only; use kind linear for the other coefficients")
    return ConstantTimer(spec.base_s)


def build_stage_cost(
    operators: StageOperators,
    precision: Precision,
    accelerator: Accelerator,
    calibration: Calibration,
    collectives: Collectives,
) -> StageCost:
    """Choose the kernels of a stage.

    Args:
        operators: From `list_operators`.
        precision: The same precision.
        accelerator: Its peaks.
        calibration: What its kernels achieve of them.
        collectives: Of the stage's ranks.
    """
    bandwidth = accelerator.memory_bandwidth_bytes_per_s
    activation_peak = accelerator.peak_for(precision.activation)

    def gemm(dtype: str, key: str) -> Kernel:
        return build_kernel(calibration.gemm_constants(key), accelerator.peak_for(dtype), bandwidth)

    kernels = {precision.activation: gemm(precision.activation, precision.activation)}
    if precision.compute != precision.activation:
        kernels[precision.compute] = gemm(precision.compute, gemm_key(precision))
    return StageCost(
        operators=operators,
        gemm=kernels,
        elementwise=build_kernel(GENERIC_ELEMENTWISE, activation_peak, bandwidth),
        decode_attention=build_kernel(calibration.decode_attention, activation_peak, bandwidth),
        prefill_attention=build_kernel(GENERIC_PREFILL_ATTENTION, activation_peak, bandwidth),
        collectives=collectives,
    )


def gemm_key(precision: Precision) -> str:
    """The dtype under which a calibration lists the model's main GEMMs."""
    if precision.weights is None or precision.compute == precision.activation:
        return precision.activation
    return precision.weights.name
