"""How much of an accelerator's memory is left for KV blocks, as vLLM works it out at start-up.

total memory x gpu_memory_utilization - weights - activation peak - runtime = the KV pool; the pool in
blocks is `num_gpu_blocks` (`determine_available_memory` in vllm/v1/worker/gpu_worker.py and
`get_kv_cache_config_from_groups` in vllm/v1/core/kv_cache_utils.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from simserve.devices.accelerator import GIB, Accelerator
from simserve.engine.activations import activation_bytes
from simserve.engine.kv_groups import KVLayout, kv_layout
from simserve.engine.memory_plan import MemoryPlan
from simserve.errors import CapacityError, InputError
from simserve.model.dtype import dtype_bytes
from simserve.model.shape import ModelShape
from simserve.model.stage import Stage, split_stages, stage_weight_bytes

MIB = 2**20
# What a rank takes between vLLM's first look at the memory and the end of its profiling run, beyond
# weights and activations: cuBLAS workspaces (32 MiB each on Hopper), kernels loaded lazily, persistent
# input buffers. vLLM 0.15.1 on H100 (Llama-2-7B, 7,462 blocks) leaves 0.26 GiB unexplained by weights
# and activations; vLLM's own logs give 0.06 to 0.28 GiB of non-torch memory on one GPU.
_RUNTIME_BYTES = int(0.25 * GIB)
# With tensor parallelism NCCL's channels, and the buffers of custom all-reduce and symmetric memory, come
# to it: 0.65 to 0.69 GiB unexplained in three runs of vLLM 0.15.1 on 2 and 4 H100.
_COLLECTIVE_BYTES = int(0.42 * GIB)
# Since 0.21 vLLM also sets aside an estimate of its CUDA graphs: at least 1 MiB a captured graph
# (`profile_cudagraph_memory`); Qwen3-14B on H100 with vLLM 0.23 (18,038 blocks) leaves 1.3 MiB a graph.
_GRAPHS_SET_ASIDE = (0, 21)
_GRAPH_BYTES = int(1.3 * MIB)
# In the same version the default of gpu_memory_utilization rose from 0.9 (vllm/config/cache.py).
_UTILIZATION, _UTILIZATION_WITH_GRAPHS = 0.9, 0.92
# vLLM captures decode batches up to twice max_num_seqs, 512 at most (CompilationConfig).
_LARGEST_GRAPH = 512


@dataclass(frozen=True, slots=True)
class MemoryRequest:
    """What decides the size of the pool, under vLLM's option names; None is vLLM's default.

    `data_parallel_size` counts the ranks that share experts: 1 for a dense model, whose ranks share nothing.
    `activations_outside`: the share of the memory is for weights, libraries and KV pool, as SGLang's
    `mem_fraction_static`, and the rest for activations and CUDA graphs.
    `cpu_offload_gb`: GiB of each rank's layers that lie in host memory.
    """

    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    max_model_len: int | None = None
    block_size: int = 16
    gpu_memory_utilization: float | None = None
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    data_parallel_size: int = 1
    enable_expert_parallel: bool = False
    decode_context_parallel_size: int = 1
    dtype: str | None = None
    kv_cache_dtype: str | None = None
    quantization: str | None = None
    enforce_eager: bool = False
    version: str = "0.19"
    num_gpu_blocks_override: int | None = None
    disable_hybrid_kv_cache_manager: bool = False
    activations_outside: bool = False
    cpu_offload_gb: float = 0.0


def default_utilization(version: str) -> float:
    """Return the default of `gpu_memory_utilization` in a version of vLLM."""
    return _UTILIZATION_WITH_GRAPHS if _numbers(version) >= _GRAPHS_SET_ASIDE else _UTILIZATION


def plan_memory(
    shape: ModelShape,
    accelerator: Accelerator,
    request: MemoryRequest,
    draft: ModelShape | None = None,
) -> MemoryPlan:
    """Size the KV pool of an instance: the smallest over its pipeline stages, as vLLM takes it.

    Args:
        shape: The model.
        accelerator: The GPU of every rank.
        request: The engine's options.
        draft: A draft model that stands beside the model on every rank (speculative decoding).

    Raises:
        CapacityError: If the weights leave no room, or the pool cannot hold `max_model_len`.
        InputError: If an option makes no sense for the model.
    """
    if shape.num_heads % request.tensor_parallel_size:
        raise InputError(
            f"tensor_parallel_size {request.tensor_parallel_size} does not divide "
            f"the {shape.num_heads} attention heads of {shape.name}"
        )
    stages = split_stages(shape.num_layers, request.pipeline_parallel_size)
    plans = [_plan_stage(shape, accelerator, request, draft, index, at) for index, at in enumerate(stages)]
    plan, layout = min(plans, key=lambda pair: pair[0].num_gpu_blocks)
    return _resolve_length(plan, layout, shape, request)


def _plan_stage(
    shape: ModelShape,
    accelerator: Accelerator,
    request: MemoryRequest,
    draft: ModelShape | None,
    index: int,
    stage: Stage,
) -> tuple[MemoryPlan, KVLayout]:
    """Plan one stage; `max_model_len` is not resolved yet."""
    weights, offloaded = _weight_bytes(shape, request, draft, stage)
    layout = kv_layout(shape, stage, _kv_dtype(shape, request), request)
    if draft is not None:
        whole = split_stages(draft.num_layers, 1)[0]
        layout = layout.with_draft(kv_layout(draft, whole, _kv_dtype(draft, request), request))
    activations, graphs = _activation_bytes(shape, request, stage), _graph_bytes(request)
    ranks = request.tensor_parallel_size * request.pipeline_parallel_size * request.data_parallel_size
    runtime = _RUNTIME_BYTES + (_COLLECTIVE_BYTES if ranks > 1 else 0)
    utilization = request.gpu_memory_utilization or default_utilization(request.version)
    budget = int(accelerator.memory_bytes * utilization)
    kv_bytes = budget - weights - activations - runtime - graphs
    blocks = request.num_gpu_blocks_override or kv_bytes // layout.block_bytes
    if kv_bytes < 0 or blocks < 2:
        raise CapacityError(
            f"{shape.name} does not fit on {accelerator.name}: a rank needs {weights / GIB:.1f} GiB for "
            f"weights and {(activations + runtime + graphs) / GIB:.1f} GiB beside them, and has "
            f"{budget / GIB:.1f} GiB ({utilization:g} of {accelerator.memory_bytes / GIB:.1f} GiB); use "
            "more ranks (tensor_parallel_size), quantization, cpu_offload_gb, or a GPU with more memory"
        )
    plan = MemoryPlan(
        accelerator.memory_bytes, utilization, weights, activations, runtime, graphs, kv_bytes,
        layout.block_bytes, layout.block_size, blocks, layout.windows, 0, index, (), offloaded,
    )  # fmt: skip
    return plan, layout


def _weight_bytes(
    shape: ModelShape, request: MemoryRequest, draft: ModelShape | None, stage: Stage
) -> tuple[int, int]:
    """Return the bytes of a rank's weights on the GPU, and of those in host memory."""
    tp = request.tensor_parallel_size
    sharing: dict[str, Any] = {
        "tensor_parallel_size": tp,
        "data_parallel_size": request.data_parallel_size,
        "dtype": request.dtype,
        "quantization": request.quantization,
    }
    offloaded = 0
    if request.cpu_offload_gb:
        layers = stage_weight_bytes(shape, stage, layers_only=True, **sharing)
        offloaded = min(int(request.cpu_offload_gb * GIB), layers)
    weights = stage_weight_bytes(shape, stage, **sharing) - offloaded
    # RoPE's table of cosines and sines stands beside the weights (vLLM's RotaryEmbedding).
    weights += int(shape.max_position_embeddings * shape.rope_dim * dtype_bytes(request.dtype or shape.dtype))
    if draft is not None:
        whole = split_stages(draft.num_layers, 1)[0]
        weights += stage_weight_bytes(draft, whole, tensor_parallel_size=tp)
    return weights, offloaded


def _activation_bytes(shape: ModelShape, request: MemoryRequest, stage: Stage) -> int:
    """Return the activation peak that the engine sets aside."""
    if request.activations_outside:
        return 0
    return activation_bytes(
        shape,
        stage,
        max_num_batched_tokens=request.max_num_batched_tokens,
        max_num_seqs=request.max_num_seqs,
        tensor_parallel_size=request.tensor_parallel_size,
        data_parallel_size=request.data_parallel_size,
        enable_expert_parallel=request.enable_expert_parallel,
        dtype=request.dtype,
        version=_numbers(request.version),
    )


def _resolve_length(
    plan: MemoryPlan, layout: KVLayout, shape: ModelShape, request: MemoryRequest
) -> MemoryPlan:
    """Return the plan with `max_model_len`: as asked, or the smaller of the model's and the pool's."""
    own = shape.max_position_embeddings
    notes: list[str] = []
    if request.num_gpu_blocks_override:
        derived = plan.kv_bytes // plan.block_bytes
        notes.append(f"num_gpu_blocks_override: {plan.num_gpu_blocks:,} blocks; memory holds {derived:,}")
    if request.max_model_len is not None and request.max_model_len > own:
        raise InputError(f"max_model_len {request.max_model_len:,} is above the {own:,} of {shape.name}")
    held = layout.longest_request(plan.num_gpu_blocks - 1, request.max_num_batched_tokens)
    wanted = request.max_model_len or own
    if request.max_model_len is not None and held < wanted:
        raise CapacityError(
            f"max_model_len {wanted:,} does not fit in the KV cache: {plan.num_gpu_blocks:,} blocks hold a "
            f"request of {held:,} tokens at most; lower max_model_len or raise gpu_memory_utilization"
        )
    if plan.offloaded_bytes < int(request.cpu_offload_gb * GIB):
        notes.append(
            f"cpu_offload_gb {request.cpu_offload_gb:g}: the layers of a rank have only "
            f"{plan.offloaded_bytes / GIB:.1f} GiB; embedding and LM head stay on the GPU"
        )
    if held < wanted:
        notes.append(
            f"max_model_len reduced from the model's {own:,} to the {held:,} that the KV cache holds"
        )
    return replace(plan, max_model_len=min(wanted, held), notes=tuple(notes))


def _kv_dtype(shape: ModelShape, request: MemoryRequest) -> str:
    """Return the dtype of KV entries; `auto` is the dtype of activations."""
    if request.kv_cache_dtype in (None, "auto"):
        return request.dtype or shape.dtype
    return str(request.kv_cache_dtype)


def _graph_bytes(request: MemoryRequest) -> int:
    """Bytes set aside for CUDA graphs: sizes 1, 2, 4, by 8 to 256 and by 16 above, piecewise and full."""
    sets_aside = _numbers(request.version) >= _GRAPHS_SET_ASIDE and not request.activations_outside
    if request.enforce_eager or not sets_aside:
        return 0
    largest = min(2 * request.max_num_seqs, _LARGEST_GRAPH)
    sizes: list[int] = [1, 2, 4, *range(8, 256, 8), *range(256, _LARGEST_GRAPH + 1, 16)]
    piecewise = sum(size <= largest for size in sizes)
    full = sum(size <= min(request.max_num_seqs, largest) for size in sizes)
    return (piecewise + full) * _GRAPH_BYTES


def _numbers(version: str) -> tuple[int, int]:
    """Return (major, minor) of a version."""
    parts = version.removeprefix("v").split(".")
    try:
        return int(parts[0]), int(parts[1])
    except (ValueError, IndexError) as error:
        raise InputError(f"not a version of vLLM: {version!r}; expected one like 0.19") from error
