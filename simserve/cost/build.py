"""Builds the step timers of an instance: one a pipeline stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from simserve.cost.calibration_note import CalibrationNote
from simserve.cost.collectives import build_collectives
from simserve.cost.fusion import default_fusion, fuse
from simserve.cost.host import NO_HOST, HostTime
from simserve.cost.kernel_book import KernelBook
from simserve.cost.kernel_calibration import KernelCalibration
from simserve.cost.kernels.expert_load import RANDOM
from simserve.cost.operator_time import OperatorTime
from simserve.cost.prices import OperatorPrices, engine_kernels
from simserve.cost.roofline import RooflineTimer
from simserve.cost.simple import ConstantTimer, LinearTimer
from simserve.cost.stage_build import build_stage_cost, describe_calibration
from simserve.cost.timer import Chunk, StepTimer
from simserve.cost.weight_offload import plan_offload
from simserve.devices.accelerator import Accelerator
from simserve.errors import InputError, UnknownNameError
from simserve.model.parallelism import Parallelism
from simserve.model.precision import resolve_precision
from simserve.model.shape import ModelShape
from simserve.model.stage import split_stages, stage_weight_bytes
from simserve.model.stage_operators import list_operators

KINDS = ("analytic", "measured", "constant", "linear")
OPERATOR_KINDS = ("analytic", "measured")


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
        kind: "analytic" (operators on a roofline), "measured" (the same, with kernels looked up in measured
            tables first), "constant" (`base_s` a step) or "linear".
        base_s: Seconds of any step (constant and linear). With a pipeline: of each stage.
        per_prefill_token_s, per_decode_s, per_context_token_s: Linear only; see `LinearTimer`.
        tables: Measured only: files of kernel tables, or folders of them.
        aic: Measured only: backend whose tables of an installed aiconfigurator-core are read; None: none.
        sustained_rates: Whether matrix multiplications keep to the calibration's `sustained_flops_per_s`.
    """

    kind: str = "analytic"
    base_s: float = 0.0
    per_prefill_token_s: float = 0.0
    per_decode_s: float = 0.0
    per_context_token_s: float = 0.0
    tables: tuple[str, ...] = ()
    aic: str | None = None
    sustained_rates: bool = True


def build_timers(
    spec: CostSpec,
    shape: ModelShape,
    accelerator: Accelerator,
    *,
    tensor_parallel_size: int = 1,
    pipeline_parallel_size: int = 1,
    data_parallel_size: int = 1,
    enable_expert_parallel: bool = False,
    all2all_backend: str = "allgather_reducescatter",
    decode_context_parallel_size: int = 1,
    cp_kv_cache_interleave_size: int = 1,
    dtype: str | None = None,
    quantization: str | None = None,
    kv_cache_dtype: str | None = None,
    cpu_offload_bytes: float = 0.0,
    expert_skew: float = RANDOM,
    host: HostTime = NO_HOST,
    fusion: str | None = None,
    calibration: Mapping[str, Any] | None = None,
    generic: Mapping[str, Any] | None = None,
    kernels: KernelBook | None = None,
    engine_version: str = "",
) -> list[ExplainableTimer]:
    """Build one timer a pipeline stage. Instances of the same kind can share them.

    Args:
        spec: Which kind, and its coefficients.
        shape: The model.
        accelerator: What each rank runs on.
        tensor_parallel_size, pipeline_parallel_size: Ranks a stage, and stages.
        data_parallel_size, enable_expert_parallel, all2all_backend, decode_context_parallel_size,
            cp_kv_cache_interleave_size: See `Parallelism`.
        dtype, quantization, kv_cache_dtype: vLLM's options; None is "auto".
        cpu_offload_bytes: Bytes of each rank's weights that lie in host memory.
        expert_skew: How tokens choose experts; see `OperatorPrices`.
        host: Host time of a step; default: none.
        fusion: Which operators ride in another's kernel (`simserve.cost.fusion`); None: as today's vLLM.
        calibration: The mapping of the accelerator's calibration file; None: generic constants.
        generic: The mapping of the generic tier's file; None: the kernel models' own.
        kernels: Where kernels are looked up instead of in both.
        engine_version: vLLM's release, for kernels that were measured under several; "": the newest.

    Raises:
        InputError: If the kind is unknown, a coefficient is out of range, or the model cannot be split.
    """
    if spec.kind not in KINDS:
        raise UnknownNameError("cost kind", spec.kind, KINDS)
    stages = split_stages(shape.num_layers, pipeline_parallel_size)
    if spec.kind not in OPERATOR_KINDS:
        return [_simple_timer(spec) for _ in stages]
    weights = {"dtype": dtype, "quantization": quantization}
    precision = resolve_precision(
        shape, **weights, kv_cache_dtype=kv_cache_dtype, native_dtypes=frozenset(accelerator.peak_flops)
    )
    book = kernels or _kernel_book(spec, accelerator, calibration, generic)
    ranks = Parallelism(
        tensor_parallel_size, data_parallel_size, enable_expert_parallel, all2all_backend,
        decode_context_parallel_size, cp_kv_cache_interleave_size,
    )  # fmt: skip
    links = {
        size: build_collectives(accelerator, size, pipeline_parallel_size, book, engine_version)
        for size in {tensor_parallel_size, ranks.expert_group, decode_context_parallel_size}
    }
    prices = OperatorPrices(book, links, engine_kernels(accelerator), expert_skew)
    note = describe_calibration(prices, precision)
    if spec.kind == "measured":
        note = _measured_note(spec, note)
    timers: list[ExplainableTimer] = []
    for stage in stages:
        listed = list_operators(shape, stage, precision, parallelism=ranks)
        fused = fuse(listed, fusion or default_fusion(accelerator), tensor_parallel=tensor_parallel_size > 1)
        layer_bytes = stage_weight_bytes(
            shape, stage, tensor_parallel_size=tensor_parallel_size, data_parallel_size=data_parallel_size,
            layers_only=True, **weights,
        )  # fmt: skip
        offload = plan_offload(cpu_offload_bytes, layer_bytes, accelerator.pcie_bytes_per_s)
        cost = build_stage_cost(fused, accelerator, prices, links[tensor_parallel_size], host, offload)
        timers.append(RooflineTimer(cost, note))
    return timers


def _kernel_book(
    spec: CostSpec,
    accelerator: Accelerator,
    calibration: Mapping[str, Any] | None,
    generic: Mapping[str, Any] | None,
) -> KernelBook:
    if not spec.sustained_rates:
        calibration = {**(calibration or {}), "sustained_flops_per_s": {}}
    if spec.kind == "analytic":
        return KernelCalibration(accelerator, calibration, generic)
    from simserve.cost.measured.kernels import MeasuredCalibration, find_sources

    sources = find_sources(accelerator, spec.tables, spec.aic)
    return MeasuredCalibration(accelerator, sources, calibration, generic)


def _measured_note(spec: CostSpec, computed: CalibrationNote) -> CalibrationNote:
    """Say where measured times are from, and what prices the kernels that they lack."""
    names = [*spec.tables, *([f"aiconfigurator-core ({spec.aic})"] if spec.aic else [])]
    error = "" if computed.error_percent is None else f", off by {computed.error_percent:.1f} % for GEMMs"
    source = f"{', '.join(names)}; kernels not in there: {computed.source}{error}"
    return CalibrationNote("measured", source, None, "")


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
