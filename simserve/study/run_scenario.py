"""From the facts of a measured run to the scenario that simulates it."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from simserve.scenario.places import KeyPath, Place, Places
from simserve.scenario.problems import describe_problems, scenario_error
from simserve.scenario.schema import Engine, Scenario
from simserve.study.run_file import RunFacts, RunFile

# vLLM's default up to 0.22, and what a run that does not state it is taken to have used.
_UTILIZATION_IF_UNKNOWN = 0.9
# A scenario's key under the engine -> the key of run.yaml that it comes from, where the names differ.
_NAMES = {
    "version": "engine_version",
    "num_gpu_blocks_override": "num_gpu_blocks",
    "enforce_eager": "cuda_graphs",
}


def build_scenario(run: RunFile, trace: str, cost: dict[str, Any]) -> Scenario:
    """Return the scenario of a run.

    Args:
        run: Its facts.
        trace: The file that its requests come from; for reports, the caller hands the workload over.
        cost: The `cost` section.

    Raises:
        InputError: If the engine cannot be simulated so, at the key of run.yaml that asks for it.
    """
    facts = run.facts
    data: dict[str, Any] = {
        "name": run.path.parent.name,
        "model": facts.model,
        "workload": {"trace": {"path": trace}, "client": {"max_concurrency": facts.client_max_concurrency}},
        "pools": [{"hardware": facts.hardware_id, "engine": _engine(facts)}],
        "cost": cost,
    }
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        problems = describe_problems(error, data, _places(run), Scenario)
        # Run.yaml knows the engine's keys without the path to them.
        raise scenario_error(
            (place, message.removeprefix("pools.0.engine.")) for place, message in problems
        ) from None


def _places(run: RunFile) -> Places:
    """Return where the scenario's keys come from: their key of run.yaml, or the file."""
    engine: KeyPath = ("pools", 0, "engine")
    values = {(*engine, key): run.place_of(_NAMES.get(key, key)) for key in Engine.model_fields}
    values[("pools", 0, "hardware")] = run.place_of("hardware_id")
    values[("model",)] = run.place_of("model")
    return Places(Place(str(run.path)), values=values)


def _engine(facts: RunFacts) -> dict[str, Any]:
    """Return the `engine` section; null is the version's default, as everywhere."""
    utilization = facts.gpu_memory_utilization
    if facts.num_gpu_blocks is not None:
        utilization = None  # it would size the pool, which is known
    elif utilization is None:
        utilization = _UTILIZATION_IF_UNKNOWN
    return {
        "kind": facts.engine,
        "version": facts.engine_version,
        "tensor_parallel_size": facts.tensor_parallel_size,
        "data_parallel_size": facts.data_parallel_size,
        "enable_expert_parallel": facts.enable_expert_parallel,
        "max_num_seqs": facts.max_num_seqs,
        "max_num_batched_tokens": facts.max_num_batched_tokens,
        "max_model_len": facts.max_model_len,
        "dtype": facts.dtype,
        "block_size": facts.block_size,
        "num_gpu_blocks_override": facts.num_gpu_blocks,
        "gpu_memory_utilization": utilization,
        "enable_prefix_caching": facts.enable_prefix_caching,
        "async_scheduling": facts.async_scheduling,
        "enforce_eager": not facts.cuda_graphs,
    }


def notes_on(facts: RunFacts) -> list[str]:
    """Return what of a run is assumed or left out, a line each."""
    notes = []
    if facts.cpu_offload:
        notes.append("cpu_offload: moving KV blocks to the CPU and back is not simulated")
    if facts.num_gpu_blocks is None:
        notes.append("num_gpu_blocks is not known: derived from the accelerator's memory")
    if facts.num_gpu_blocks is None and facts.gpu_memory_utilization is None:
        notes.append(f"gpu_memory_utilization is not known: {_UTILIZATION_IF_UNKNOWN}")
    if facts.latency_from == "queued":
        notes.append("latencies count from the engine's queue: no client or server time is added")
    return notes
