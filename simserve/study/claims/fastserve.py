"""FastServe: average latency under preemptive scheduling against first come, first served."""

from __future__ import annotations

from collections.abc import Mapping

from simserve.study.claims.case import Case, Found
from simserve.study.claims.claim import Claim, Row, ratio_of, ratio_of_rates

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
    "FasterTransformer": (f"{_ENGINE}.kind=dynamic", f"{_ENGINE}.options={{}}"),
}


# Where both are overloaded: the latencies that the orders give the same requests.
_OVERLOAD_PER_S = 4.0


def _judge(found: Mapping[str, Found]) -> list[Row]:
    rows = []
    for load in _LOADS:
        for name, text, claimed in (("vLLM", "up to 31.4x", 31.4), ("FasterTransformer", "", None)):
            ratio = ratio_of_rates(found, f"FastServe, {load}", f"{name}, {load}")
            rows.append(
                Row(f"{load}: rate over {name} at a mean of 0.3 s a token", text, claimed, claimed, ratio)
            )
    for kind in ("mean", "median"):
        names = [f"{name}, ShareGPT at {_OVERLOAD_PER_S:g}/s" for name in list(_SYSTEMS)[:2]]
        ratio = ratio_of(found, f"{kind} s/token", names[1], names[0])
        rows.append(
            Row(f"ShareGPT at 4/s: {kind} latency a token of FCFS over FastServe's", "", None, None, ratio)
        )
    return rows


_FIGURES = ("median s/token", "requests/s", "mean E2EL, s", "preemptions")
_SOUGHT = tuple(
    Case(
        f"{name}, {load}",
        "claims/fastserve",
        (*changes, *_SYSTEMS[name]),
        _FIGURES,
        (("mean s/token", _BOUND_S),),
    )
    for load, changes in _LOADS.items()
    for name in _SYSTEMS
)
_OVERLOADED = tuple(
    Case(
        f"{name}, ShareGPT at {_OVERLOAD_PER_S:g}/s",
        "claims/fastserve",
        (f"workload.arrivals.rate_per_s={_OVERLOAD_PER_S}", *_SYSTEMS[name]),
        (*_FIGURES, "mean s/token"),
    )
    for name in list(_SYSTEMS)[:2]
)
FASTSERVE = Claim("fastserve", (*_SOUGHT, *_OVERLOADED), _judge)
