"""Engine profiles: what a release of vLLM does where the user says nothing."""

from __future__ import annotations

from dataclasses import dataclass

from simserve.devices.accelerator import GIB, Accelerator
from simserve.errors import UnknownNameError


@dataclass(frozen=True, slots=True)
class EngineProfile:
    """Defaults and rules of one release.

    Attributes:
        version: major.minor.
        async_scheduling: Whether it schedules ahead by default (since 0.14, released January 2026).
        scheduler_reserve_full_isl: Whether admission wants room for the whole prompt (vLLM pull request
            37307, March 2026: not in 0.15).
        gpu_memory_utilization: Its default (see `memory.default_utilization`).
        host: Its host profile (`simserve.cost.host_profiles`): what the CPU does around a step, which
            asynchronous scheduling hides and synchronous scheduling pays.
    """

    version: str
    async_scheduling: bool
    scheduler_reserve_full_isl: bool
    gpu_memory_utilization: float
    host: str

    def resolve_async(self, given: bool | None, speculative_method: str | None) -> bool:
        """Return whether to schedule asynchronously: as given, else if the proposer of drafts allows it.

        Only EAGLE's drafts may be awaited on the device (vLLM pull request 31998).
        """
        if given is not None:
            return given
        return self.async_scheduling and speculative_method in (None, "eagle")


_PROFILES = {
    "0.15": EngineProfile("0.15", True, False, 0.9, "vllm-0.15"),
    "0.19": EngineProfile("0.19", True, True, 0.9, "vllm-0.19"),
    "0.23": EngineProfile("0.23", True, True, 0.92, "vllm-0.23"),
}


def load_profile(version: str) -> EngineProfile:
    """Return the profile of a release, `major.minor`. Raises UnknownNameError."""
    if version not in _PROFILES:
        raise UnknownNameError("engine version", version, _PROFILES)
    return _PROFILES[version]


def default_limits(accelerator: Accelerator) -> tuple[int, int]:
    """Return (max_num_batched_tokens, max_num_seqs) of vLLM's API server on an accelerator.

    vLLM 0.19.0, `engine/arg_utils.py get_batch_defaults`: 8192 and 1024 from 70 GiB on, but not on A100;
    2048 and 256 on others.
    """
    if accelerator.memory_bytes >= 70 * GIB and not accelerator.name.startswith("a100"):
        return 8192, 1024
    return 2048, 256
