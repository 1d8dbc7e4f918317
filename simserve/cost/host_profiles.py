"""Host profiles by engine release, from the engines of 2023 to today's."""

from __future__ import annotations

from dataclasses import replace

from simserve.cost.host import HostProfile
from simserve.errors import UnknownNameError

# vLLM 0.2 (2023) on A100 hosts. Workers: Ray's 6.3 to 6.7 ms where there are several ranks (Vidur's CPU
# profile). The rest from whole steps: those of Llama-2-70B stay at 44 to 45 ms on four and on eight A100
# from batch 1 to 8, and grow by 0.25 to 0.4 ms a sequence beyond (Splitwise); those of OPT-13B start at 22
# to 26 ms on one to four, and grow by 0.06 to 0.12 ms (DistServe's fits). Vidur's leaner engine spends 1.4
# ms a step on scheduling, inputs, sampling and outputs, and 43 us a sequence.
_VLLM_2023 = HostProfile(
    step_s=6e-3,
    sequence_s=200e-6,
    worker_s=6.4e-3,
    launch_s=30e-6,
    eager_launch_s=30e-6,
    exposed_s=0.0,
    uses_graphs=False,
    overlaps=False,
    source="whole steps of vLLM in 2023 (Splitwise, DistServe), workers as in Vidur's CPU profile",
)
# DistServe's own C++ engine (2024): steps of OPT-13B on four A100 take 10.3 ms at batch 1, of OPT-66B on
# eight 23.2 (its fitted coefficients), of which the kernels take less than half.
_DISTSERVE = HostProfile(
    step_s=1.0e-3,
    sequence_s=20e-6,
    worker_s=2.0e-3,
    launch_s=15e-6,
    eager_launch_s=15e-6,
    exposed_s=0.0,
    uses_graphs=False,
    overlaps=False,
    source="fitted step coefficients of DistServe's engine on A100",
)
# vLLM's V1 engine with CUDA graphs, as of 2025 (0.8 to 0.13): measured steps exceed their kernels by 0 to 1
# ms (kernel study, section 6). Synchronous scheduling shows 0.6 ms (0.8 with several ranks) and 4 us a
# sequence, which Qwen3-32B under vLLM 0.12 confirms (0.1 ms is left). Its first asynchronous scheduling hides
# the workers' answers and what each sequence takes, but not the kernels of input preparation and sampling,
# nor the graph's launch. A launch outside of a graph is that of a compiled model, less than half of 2023's;
# without compilation (`enforce_eager`) it is 2023's.
_VLLM_2025 = HostProfile(
    step_s=0.6e-3,
    sequence_s=4e-6,
    worker_s=0.2e-3,
    launch_s=12e-6,
    eager_launch_s=30e-6,
    exposed_s=0.6e-3,
    uses_graphs=True,
    overlaps=True,
    source="residual of measured steps, 0 to 1 ms (kernel study, section 6)",
)
# From 0.14 on, where scheduling ahead is the default, hardly anything is left to wait for: decode steps of
# six models on H100 and RTX PRO 6000 exceed their kernels by 0.02 ms on average, by 0 to 0.15 ms with one of
# the models left out (`simserve validate --leave-one-out`).
_VLLM_2026 = replace(
    _VLLM_2025,
    exposed_s=0.05e-3,
    source="measured decode steps of six models under vLLM 0.15 to 0.23, beyond their kernels",
)
HOST_PROFILES: dict[str, HostProfile] = {
    "none": HostProfile(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, uses_graphs=True, overlaps=True, source="no host time"),
    "vllm-0.2": _VLLM_2023,
    "distserve": _DISTSERVE,
    "vllm-0.11": _VLLM_2025,
    "vllm-0.15": _VLLM_2026,
    "vllm-0.19": _VLLM_2026,
    "vllm-0.23": _VLLM_2026,
}


def host_profile(name: str) -> HostProfile:
    """Return a host profile by name. Raises UnknownNameError."""
    if name not in HOST_PROFILES:
        raise UnknownNameError("host profile", name, HOST_PROFILES)
    return HOST_PROFILES[name]
