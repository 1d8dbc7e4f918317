"""FastServe: average latency under preemptive scheduling against first come, first served."""

from __future__ import annotations

from collections.abc import Mapping

from simserve.study.claims.case import Case, Found
from simserve.study.claims.claim import Claim, Row, ratio_of_rates

_ENGINE = "pools.0.engine"
# The dashed line of figure 11 (the authors' plotting script), mean s a token.
_BOUND_S = 0.3
_LOADS = {
    "ShareGPT": (),
    "Alpaca": (
        "workload.prompt_tokens={mean: 19.31, cv: 0.5, max: 512}",
        "workload.output_tokens={mean: 58.45, cv: 1.0, max: 1024}",
    ),
}
_VLLM = (f"{_ENGINE}.kind=vllm-v0", f"{_ENGINE}.options={{}}")
_SYSTEMS = {
    "FastServe": (),
    "first come, first served, same host": _VLLM,
    "vLLM": (*_VLLM, f"{_ENGINE}.host_profile=vllm-0.2"),
}


def _judge(found: Mapping[str, Found]) -> list[Row]:
    return [
        Row(
            f"{load}: rate over vLLM within a mean of 0.3 s a token",
            "up to 31.4x",
            31.4,
            31.4,
            ratio_of_rates(found, f"FastServe, {load}", f"vLLM, {load}"),
        )
        for load in _LOADS
    ]


FASTSERVE = Claim(
    "fastserve",
    tuple(
        Case(
            f"{name}, {load}",
            "claims/fastserve",
            (*changes, *_SYSTEMS[name]),
            ("median s/token", "mean E2EL, s", "preemptions"),
            (("mean s/token", _BOUND_S),),
        )
        for load, changes in _LOADS.items()
        for name in _SYSTEMS
    ),
    _judge,
)
