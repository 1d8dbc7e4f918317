"""The roofline of one step: every operator's work, time and distance from the speed of light."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simserve.cost.build import CostSpec, build_timers
from simserve.cost.graphs import capture_sizes
from simserve.cost.host import NO_HOST, HostTime, resolve_host
from simserve.cost.host_profiles import host_profile
from simserve.cost.kernel_calibration import KernelCalibration
from simserve.cost.operator_time import OperatorTime
from simserve.cost.timer import Chunk
from simserve.devices.accelerator import Accelerator
from simserve.errors import InputError
from simserve.model.precision import resolve_precision
from simserve.model.shape import ModelShape
from simserve.model.stage import split_stages
from simserve.model.stage_operators import list_operators
from simserve.report.flash_blocks import FlashBlock, parse_blocks, sweep_blocks
from simserve.report.roofline_rows import Roofline, RooflineRow, Step
from simserve.report.what_if import WhatIf, parse_what_if
from simserve.scenario.catalog import load_calibration, load_generic_calibration, load_hardware, load_model

_NS = 1e9
# Graphs of vLLM's default `max_num_seqs`.
_MAX_NUM_SEQS = 256


@dataclass(frozen=True, slots=True)
class _Setup:
    """What is run: a model, how it is split, and one batch."""

    shape: ModelShape
    spec: CostSpec
    options: Mapping[str, Any]
    host: HostTime
    batch: int
    context: int
    prefill: int
    calibration: Mapping[str, Any] | None


def roofline(
    model: str,
    hardware: str,
    *,
    batch: int = 1,
    context: int = 1024,
    prefill: int = 0,
    tensor_parallel_size: int = 1,
    pipeline_parallel_size: int = 1,
    data_parallel_size: int = 1,
    enable_expert_parallel: bool = False,
    dtype: str | None = None,
    quantization: str | None = None,
    kv_cache_dtype: str | None = None,
    host: str | None = None,
    cost: CostSpec | None = None,
    what_if: str | WhatIf | None = None,
    flash_block: str | None = None,
    beside: Path | None = None,
) -> Roofline:
    """Take one step of a model apart: FLOPs, bytes, time and bound of every operator.

    Args:
        model, hardware: Catalog names, aliases or paths, as in a scenario.
        batch: Requests that decode one token each, of one data-parallel rank.
        context: KV tokens that each of them reads, the new one included.
        prefill: Tokens of one prompt that is prefilled in the same step; 0: none.
        tensor_parallel_size, pipeline_parallel_size: Ranks a stage, and stages.
        data_parallel_size, enable_expert_parallel: Ranks with a batch each, and whether they share experts.
        dtype, quantization, kv_cache_dtype: vLLM's options; None is "auto".
        host: A host profile ("vllm-0.19"), whose time and CUDA-graph padding are added; None: kernels alone.
        cost: Where operator times come from; None: the accelerator's calibration.
        what_if: Factors on the hardware's rates, as in `bandwidth=2x,flops=1.5x,link=0.5x`.
        flash_block: Block sizes of FlashAttention to try on the prompt, as in `64,128x64`.
        beside: Folder for relative paths.

    Raises:
        InputError: For unknown names, an empty batch, a model that cannot be split so, or a what-if of
            measured times.
    """
    if batch < 0 or prefill < 0 or batch + prefill == 0:
        raise InputError("roofline: the step needs a decoding request (batch) or a prompt (prefill)")
    if batch and context < 1:
        raise InputError(f"roofline: context must be at least 1 token, not {context}")
    options = {
        "tensor_parallel_size": tensor_parallel_size,
        "pipeline_parallel_size": pipeline_parallel_size,
        "data_parallel_size": data_parallel_size,
        "enable_expert_parallel": enable_expert_parallel,
        "dtype": dtype,
        "quantization": quantization,
        "kv_cache_dtype": kv_cache_dtype,
    }
    accelerator = load_hardware(hardware, beside)
    setup = _Setup(
        shape=load_model(model, beside),
        spec=cost or CostSpec(),
        options=options,
        host=_host_time(host, tensor_parallel_size * pipeline_parallel_size),
        batch=batch,
        context=context,
        prefill=prefill,
        calibration=load_calibration(accelerator),
    )
    factors = parse_what_if(what_if) if isinstance(what_if, str) else what_if
    if factors is not None and setup.spec.kind == "measured":
        raise InputError(
            "roofline: measured times are of the hardware as it is; leave out what-if or the tables"
        )
    return Roofline(
        model=setup.shape.name,
        hardware=accelerator.name,
        options={**options, "host": host, "batch": batch, "context": context, "prefill": prefill},
        step=_price(setup, accelerator),
        what_if=factors,
        changed=_price(setup, factors.scale(accelerator)) if factors else None,
        flash_blocks=tuple(_sweep(setup, accelerator, flash_block)) if flash_block else (),
    )


def _host_time(profile: str | None, ranks: int) -> HostTime:
    if profile is None:
        return NO_HOST
    sizes = capture_sizes(_MAX_NUM_SEQS)
    return resolve_host(host_profile(profile), ranks=ranks, overlaps=None, graph_sizes=sizes)


def _price(setup: _Setup, accelerator: Accelerator) -> Step:
    timers = build_timers(
        setup.spec,
        setup.shape,
        accelerator,
        host=setup.host,
        calibration=setup.calibration,
        generic=load_generic_calibration(),
        **setup.options,
    )
    windows = [window for window in setup.shape.layer_windows if window]
    window_tokens = setup.batch * min(setup.context, min(windows)) if windows else 0
    chunks = [Chunk(setup.prefill, 0)] if setup.prefill else []
    shape = (setup.batch, setup.batch * setup.context, window_tokens, chunks, setup.batch + len(chunks))
    merged: dict[str, list[OperatorTime]] = {}
    for timer in timers:
        for row in timer.explain(*shape):
            merged.setdefault(row.operator, []).append(row)
    sends_s = sum(timer.send_ns(setup.batch + setup.prefill) for timer in timers) / _NS
    if sends_s:
        merged["send"] = [_send(sends_s, len(timers) - 1)]
    step_s = sum(row.seconds for rows in merged.values() for row in rows)
    return Step(
        tuple(_merge(rows, step_s) for rows in merged.values()),
        step_s,
        accelerator.peak_flops,
        accelerator.memory_bandwidth_bytes_per_s,
        accelerator.link_bytes_per_s,
    )


def _sweep(setup: _Setup, accelerator: Accelerator, sizes: str) -> list[FlashBlock]:
    blocks = parse_blocks(sizes)
    if not setup.prefill:
        raise InputError("--flash-block: the step needs a prompt (--prefill)")
    options = setup.options
    precision = resolve_precision(
        setup.shape,
        dtype=options["dtype"],
        quantization=options["quantization"],
        kv_cache_dtype=options["kv_cache_dtype"],
        native_dtypes=frozenset(accelerator.peak_flops),
    )
    (stage,) = split_stages(setup.shape.num_layers, 1)
    attention = list_operators(setup.shape, stage, precision, options["tensor_parallel_size"]).attention
    book = KernelCalibration(accelerator, setup.calibration, load_generic_calibration())
    return sweep_blocks(attention, book, blocks, setup.prefill)


def _merge(rows: Sequence[OperatorTime], step_s: float) -> RooflineRow:
    """Add up one operator's rows over the stages; what it is bound by and its calibration are the first's."""
    first = rows[0]
    seconds = sum(row.seconds for row in rows)
    return RooflineRow(
        operator=first.operator,
        family=first.family or first.operator,
        launches=sum(row.launches for row in rows),
        flops=sum(row.flops for row in rows),
        moved_bytes=sum(row.moved_bytes for row in rows),
        seconds=seconds,
        ideal_s=sum(row.ideal_s for row in rows),
        share=seconds / step_s if step_s else 0.0,
        bound=first.bound,
        dtype=first.dtype,
        tier=first.tier,
        source=first.source,
        error_percent=first.error_percent,
    )


def _send(seconds: float, sends: int) -> OperatorTime:
    """Hidden states handed from stage to stage."""
    return OperatorTime(
        "send", sends, 0.0, 0.0, seconds, 0.0, "communication", "send", tier="generic", source="link model"
    )
