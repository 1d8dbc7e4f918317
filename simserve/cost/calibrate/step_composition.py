"""Whole steps composed from kernels, to compare with measured ones: nothing here is fitted to a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from simserve.cost.build import CostSpec, ExplainableTimer, build_timers
from simserve.cost.graphs import capture_sizes
from simserve.cost.host import HostProfile, resolve_host
from simserve.cost.host_profiles import host_profile
from simserve.cost.kernel_calibration import KernelCalibration
from simserve.cost.timer import Chunk
from simserve.data_files import data_folder
from simserve.devices.accelerator import Accelerator
from simserve.errors import InputError
from simserve.model.config import load_json, read_config
from simserve.model.parallelism import Parallelism
from simserve.model.shape import ModelShape
from simserve.model.stage import split_stages, stage_weight_bytes

_FORMAT_ENDINGS = ("-fp8", "-nvfp4", "-fp4", "-int4", "-awq")
# vLLM's default of gpu_memory_utilization, and what a rank needs beside weights and KV (activations,
# libraries).
_UTILIZATION, _BESIDE_BYTES = 0.9, 3 * 2**30
# vLLM's default of max_num_seqs on data-centre GPUs, which decides the captured graphs.
_MAX_NUM_SEQS = 1024
# Tokens of a prefill chunk (max_num_batched_tokens on the same GPUs).
_CHUNK_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class Setup:
    """One serving configuration.

    Attributes:
        hardware: As the table spells it.
        framework: Whose kernels are preferred.
        model: Hugging Face id, or a catalog name.
        tensor_parallel_size, data_parallel_size, expert_parallel: Ranks.
        quantization, kv_cache_dtype: vLLM's options; "" is "auto".
        stored_kv_dtype: Of the KV cache as stored, where its kernels are no faster for it; "": as before.
        host: Name of the host profile.
        host_factor: How slow the host is, relative to the profile's.
        overlaps: Whether the engine schedules ahead; None: as the profile does.
        fusion: Rule of `simserve.cost.fusion`; "": as today's vLLM on the accelerator.
    """

    hardware: str
    framework: str
    model: str
    tensor_parallel_size: int
    data_parallel_size: int = 1
    expert_parallel: bool = False
    quantization: str = ""
    kv_cache_dtype: str = ""
    stored_kv_dtype: str = ""
    host: str = "none"
    host_factor: float = 1.0
    overlaps: bool | None = None
    fusion: str = ""


class StepModel:
    """Prices the steps of one configuration.

    Args:
        setup: The configuration.
        shape: Its model.
        kernels: Of its accelerator.
    """

    def __init__(self, setup: Setup, shape: ModelShape, kernels: KernelCalibration) -> None:
        self.setup = setup
        self.shape = shape
        self.accelerator: Accelerator = kernels.accelerator
        profile: HostProfile = host_profile(setup.host).scaled(setup.host_factor)
        ranks = setup.tensor_parallel_size * setup.data_parallel_size
        self.timer: ExplainableTimer = build_timers(
            CostSpec(),
            shape,
            kernels.accelerator,
            tensor_parallel_size=setup.tensor_parallel_size,
            data_parallel_size=setup.data_parallel_size,
            enable_expert_parallel=setup.expert_parallel,
            quantization=setup.quantization or None,
            kv_cache_dtype=setup.kv_cache_dtype or None,
            host=resolve_host(
                profile, ranks=ranks, overlaps=setup.overlaps, graph_sizes=capture_sizes(_MAX_NUM_SEQS)
            ),
            fusion=setup.fusion or None,
            kernels=kernels,
        )[0]

    def decode_s(self, batch: int, context: int) -> float:
        """Seconds of a step of `batch` decodes with `context` tokens each."""
        window = self.shape.sliding_window
        keys = batch * min(context, window) if window else 0
        return self.timer.decode_ns(batch, batch * context, keys, 1)[0] * 1e-9

    def prefill_s(self, tokens: int) -> float:
        """Seconds to prefill a prompt of `tokens` tokens, in chunks of one step each."""
        total_ns = 0
        for start in range(0, tokens, _CHUNK_TOKENS):
            chunk = Chunk(min(_CHUNK_TOKENS, tokens - start), start)
            total_ns += self.timer.batch_ns(0, 0, 0, [chunk], 1)
        return total_ns * 1e-9

    def concurrency(self, tokens: int) -> float:
        """How many requests of `tokens` tokens the KV cache of one rank holds."""
        setup, shape = self.setup, self.shape
        ranks = Parallelism(setup.tensor_parallel_size, setup.data_parallel_size, setup.expert_parallel)
        weights = stage_weight_bytes(
            shape,
            split_stages(shape.num_layers, 1)[0],
            tensor_parallel_size=setup.tensor_parallel_size,
            quantization=setup.quantization or None,
        )
        if shape.is_moe:
            experts = sum(shape.layer_experts) * shape.num_experts * shape.expert_parameters()
            share = weights * experts / max(1, shape.parameters().total)
            weights -= int(share * (1 - setup.tensor_parallel_size / ranks.expert_group))
        room = self.accelerator.memory_bytes * _UTILIZATION - weights - _BESIDE_BYTES
        stored = setup.stored_kv_dtype or setup.kv_cache_dtype or shape.dtype
        a_token = shape.kv_bytes_per_token(stored, setup.tensor_parallel_size)
        return max(1.0, room / (a_token * tokens))

    def tpot_s(self, batch: int, prompt: int, output: int) -> float:
        """Time per output token of a steady load: a decode step, and each request's share of the prefills.

        While a request decodes its `output` tokens, each of the running ones is replaced once. Requests
        beyond what the KV cache holds wait, and do not slow those that run.
        """
        context = prompt + output // 2
        running = max(1, int(min(batch, self.concurrency(context))))
        return self.decode_s(running, context) + running / output * self.prefill_s(prompt)


class StepModels:
    """Step models by configuration, built once.

    Args:
        calibration_of: An accelerator's calibration by the table's spelling.
    """

    def __init__(self, calibration_of: Callable[[str], KernelCalibration]) -> None:
        self._calibration_of = calibration_of
        self._models: dict[Setup, StepModel] = {}

    def of(self, setup: Setup) -> StepModel:
        """Return the model of a configuration.

        Raises:
            InputError: If the catalog lacks its model.
        """
        if setup not in self._models:
            shape = find_shape(setup.model)
            if shape is None:
                raise InputError("the catalog has no such model")
            self._models[setup] = StepModel(setup, shape, self._calibration_of(setup.hardware))
        return self._models[setup]


@cache
def _configs() -> Mapping[str, Any]:
    """Every model of the catalog by the spellings of its names, in lower case."""
    found: dict[str, Any] = {}
    for path in sorted(data_folder("models").glob("*.json")):
        content = load_json(path)
        for name in (path.stem, *content.get("_aliases", []), *content.get("_variants", {})):
            found[name.lower()] = path
    return found


@cache
def find_shape(name: str) -> ModelShape | None:
    """Return a model's shape by catalog name or Hugging Face id.

    A quantized copy by somebody else (`nvidia/Llama-3.1-8B-Instruct-FP8`) is found by the name without its
    organisation and format.
    """
    plain = name.lower()
    for end in _FORMAT_ENDINGS:
        plain = plain.removesuffix(end)
    by_model = {spelling.split("/")[-1]: path for spelling, path in _configs().items()}
    path = _configs().get(name.lower()) or by_model.get(plain.split("/")[-1])
    return read_config(path) if path is not None else None
