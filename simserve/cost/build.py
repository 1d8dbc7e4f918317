"""Builds the step timers of an instance: one a pipeline stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from simserve.cost.attention_prices import KernelAttention
from simserve.cost.attention_tables import AttentionPrices, AttentionTables
from simserve.cost.calibration_note import CalibrationNote
from simserve.cost.collectives import Collectives, build_collectives
from simserve.cost.context_parallel import ContextParallelAttention
from simserve.cost.fusion import default_fusion, fuse
from simserve.cost.host import NO_HOST, HostTime
from simserve.cost.kernel_book import KernelBook
from simserve.cost.kernel_calibration import KernelCalibration
from simserve.cost.kernels.expert_load import RANDOM
from simserve.cost.prices import OperatorPrices, engine_kernels
from simserve.cost.roofline import RooflineTimer
from simserve.cost.simple import ConstantTimer, LinearTimer
from simserve.cost.stage_cost import OperatorTime, StageCost
from simserve.cost.timer import Chunk, StepTimer
from simserve.cost.weight_offload import WeightOffload, plan_offload
from simserve.devices.accelerator import Accelerator
from simserve.errors import InputError, UnknownNameError
from simserve.model.operators import AttentionOperator, StageOperators
from simserve.model.parallelism import Parallelism
from simserve.model.precision import Precision, resolve_precision
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
    precision = resolve_precision(
        shape,
        dtype=dtype,
        quantization=quantization,
        kv_cache_dtype=kv_cache_dtype,
        native_dtypes=frozenset(accelerator.peak_flops),
    )
    book = kernels or _kernel_book(spec, accelerator, calibration, generic)
    ranks = Parallelism(
        tensor_parallel_size, data_parallel_size, enable_expert_parallel, all2all_backend,
        decode_context_parallel_size, cp_kv_cache_interleave_size,
    )  # fmt: skip
    links = {
        size: build_collectives(accelerator, size, pipeline_parallel_size, book, engine_version)
        for size in {ranks.tensor_parallel_size, ranks.expert_group, decode_context_parallel_size}
    }
    prices = OperatorPrices(book, links, engine_kernels(accelerator), expert_skew)
    note = describe_calibration(prices, precision)
    if spec.kind == "measured":
        note = _measured_note(spec, note)
    return [
        RooflineTimer(
            build_stage_cost(
                fuse(
                    list_operators(shape, stage, precision, parallelism=ranks),
                    fusion or default_fusion(accelerator),
                    tensor_parallel=tensor_parallel_size > 1,
                ),
                accelerator,
                prices,
                links[tensor_parallel_size],
                host,
                plan_offload(
                    cpu_offload_bytes,
                    stage_weight_bytes(
                        shape, stage, tensor_parallel_size=tensor_parallel_size,
                        data_parallel_size=data_parallel_size, dtype=dtype, quantization=quantization,
                        layers_only=True,
                    ),
                    accelerator.pcie_bytes_per_s,
                ),
            ),
            note,
        )
        for stage in stages
    ]  # fmt: skip


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
