"""RadixAttention: hit rates and throughput on shared prefixes."""

from __future__ import annotations

from collections.abc import Mapping

from simserve.study.claims.case import Case, Found
from simserve.study.claims.claim import NEAR, Claim, Row, ratio_of

_ENGINE = "pools.0.engine"
_TURNS = "{turns: 4, new_tokens: {min: 256, max: 512}}"
_LOADS = {
    "MMLU, five shots": (),
    # The benchmark's script: twenty solved examples for all, 200 questions with four endings each.
    "HellaSwag, twenty shots": (
        "workload.prefixes={groups: 1, tokens: 2000}",
        "workload.prompt_tokens={median: 90, sigma: 0.3, max: 300}",
        "workload.requests=800",
    ),
    # The benchmark's script: twenty chats of four turns of 256 to 512 tokens; answers of 4 to 8, or long.
    "chat, short answers": (
        "workload.prefixes=null",
        "workload.prompt_tokens={min: 256, max: 512}",
        "workload.output_tokens={min: 4, max: 8}",
        f"workload.sessions={_TURNS}",
        "workload.requests=80",
    ),
    "chat, long answers": (
        "workload.prefixes=null",
        "workload.prompt_tokens={min: 256, max: 512}",
        "workload.output_tokens={min: 256, max: 512}",
        f"workload.sessions={_TURNS}",
        "workload.requests=80",
    ),
}
_SYSTEMS = {
    "SGLang, lpm": (),
    "SGLang, fcfs": (f"{_ENGINE}.options.schedule_policy=fcfs",),
    "SGLang, no cache": (
        f"{_ENGINE}.options.schedule_policy=fcfs",
        f"{_ENGINE}.options.disable_radix_cache=true",
    ),
    "vLLM 0.2": (
        f"{_ENGINE}.kind=vllm-v0",
        f"{_ENGINE}.options={{}}",
        f"{_ENGINE}.enable_prefix_caching=false",
    ),
}


# What the chats with short answers would take: how much of a miss is the memory's.
_CHAT = "chat, short answers"
_MEMORIES = (24_000, 40_000)


def _judge(found: Mapping[str, Found]) -> list[Row]:
    rows = []
    for load in _LOADS:
        rate = found[f"SGLang, lpm; {load}"].figures["hit rate"]
        share = None if rate is None else rate * 100
        rows.append(Row(f"hit rate, {load}", "50 to 99 %", 50.0, 99.0 / NEAR, share, "{:.0f} %"))
    for load in _LOADS:
        ratio = ratio_of(found, "requests/s", f"SGLang, lpm; {load}", f"vLLM 0.2; {load}")
        rows.append(Row(f"throughput over vLLM, {load}", "up to 6.4x", None, 6.4, ratio))
    return rows


_FIGURES = ("requests/s", "hit rate", "mean batch")
_CASES = [
    Case(f"{name}; {load}", "claims/radix-attention", (*changes, *_SYSTEMS[name]), _FIGURES)
    for load, changes in _LOADS.items()
    for name in _SYSTEMS
]
_LARGER = [
    Case(
        f"SGLang, lpm, {tokens:,} tokens of KV memory; {_CHAT}",
        "claims/radix-attention",
        (*_LOADS[_CHAT], f"{_ENGINE}.options.max_total_tokens={tokens}"),
        _FIGURES,
    )
    for tokens in _MEMORIES
]
RADIX = Claim("radix-attention", (*_CASES, *_LARGER), _judge)
