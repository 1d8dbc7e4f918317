"""RadixAttention: hit rates and throughput on shared prefixes."""

from __future__ import annotations

from collections.abc import Mapping

from simserve.study.claims.case import Case, Found
from simserve.study.claims.claim import Claim, Row, ratio_of

_ENGINE = "pools.0.engine"
_TURNS = "{turns: 4, new_tokens: {min: 256, max: 512}}"
_LOADS = {
    "MMLU, five shots": (),
    # Twenty solved examples for all, then four endings of each question: one token each.
    "HellaSwag, twenty shots": (
        "workload.prefixes={groups: 1, tokens: 2200}",
        "workload.prompt_tokens={median: 110, sigma: 0.3, max: 300}",
    ),
    # Section 6.1: four turns of 256 to 512 tokens; answers of 4 to 8, or of 256 to 512.
    "chat, short answers": (
        "workload.prefixes=null",
        "workload.prompt_tokens={min: 256, max: 512}",
        "workload.output_tokens={min: 4, max: 8}",
        f"workload.sessions={_TURNS}",
        "workload.requests=800",
    ),
    "chat, long answers": (
        "workload.prefixes=null",
        "workload.prompt_tokens={min: 256, max: 512}",
        "workload.output_tokens={min: 256, max: 512}",
        f"workload.sessions={_TURNS}",
        "workload.requests=400",
    ),
}
_SYSTEMS = {
    "SGLang, lpm": (),
    "SGLang, fcfs": (f"{_ENGINE}.options.schedule_policy=fcfs",),
    "SGLang, no cache": (f"{_ENGINE}.options.schedule_policy=fcfs", f"{_ENGINE}.options.disable_radix_cache=true"),
    "vLLM 0.2": (f"{_ENGINE}.kind=vllm-v0", f"{_ENGINE}.options={{}}", f"{_ENGINE}.enable_prefix_caching=false"),
}


def _judge(found: Mapping[str, Found]) -> list[Row]:
    rows = []
    ratios: list[float] = []
    for load in _LOADS:
        rate = found[f"SGLang, lpm; {load}"].figures["hit rate"]
        share = None if rate is None else rate * 100
        rows.append(Row(f"hit rate, {load}", "50 to 99 %", 50.0, 99.0 / 1.25, share, "{:.0f} %"))
        ratio = ratio_of(found, "requests/s", f"SGLang, lpm; {load}", f"vLLM 0.2; {load}")
        ratios += [ratio] if ratio else []
    best = max(ratios, default=None)
    return [*rows, Row("throughput over vLLM, best of these", "up to 6.4x", 6.4, 6.4, best)]


RADIX = Claim(
    "radix-attention",
    tuple(
        Case(f"{name}; {load}", "claims/radix-attention", (*changes, *_SYSTEMS[name]), ("requests/s", "hit rate", "mean batch"))
        for load, changes in _LOADS.items()
        for name in _SYSTEMS
    ),
    _judge,
)
