"""Sarathi-Serve: capacity within a bound on the time between tokens, alone and with a pipeline."""

from __future__ import annotations

from collections.abc import Mapping

from simserve.study.claims.case import Case, Found
from simserve.study.claims.claim import Claim, Row, ratio_of_rates

_ENGINE = "pools.0.engine"
# Bounds on the P99 time between tokens and the token budgets that go with them (the authors' scripts), s.
_MODELS = {
    "claims/sarathi": ("Mistral-7B", {"strict": (0.1, 512), "relaxed": (0.5, 2048)}),
    "claims/sarathi-pipeline": ("Falcon-180B", {"strict": (1.0, 512), "relaxed": (5.0, 2048)}),
}
# Capacity is where the median request waits 2 s for its first step (section 5.1).
_WAIT_S = 2.0
_FIGURES = ("output tokens/s", "mean batch", "preemptions")


def _cases(scenario: str) -> tuple[Case, ...]:
    _, bounds = _MODELS[scenario]
    cases = []
    for bound, (itl_s, budget) in bounds.items():
        limits = (("P99 ITL, s", itl_s), ("median wait, s", _WAIT_S))
        sarathi = (f"{_ENGINE}.max_num_batched_tokens={budget}",)
        vllm = (f"{_ENGINE}.kind=vllm-v0", f"{_ENGINE}.max_num_batched_tokens=16384")
        cases.append(Case(f"Sarathi-Serve, {bound}", scenario, sarathi, _FIGURES, limits))
        cases.append(Case(f"vLLM, {bound}", scenario, vllm, _FIGURES, limits))
    return tuple(cases)


def _judge(claimed: tuple[str, float], found: Mapping[str, Found]) -> list[Row]:
    text, figure = claimed
    strict, relaxed = (
        ratio_of_rates(found, f"Sarathi-Serve, {bound}", f"vLLM, {bound}") for bound in ("strict", "relaxed")
    )
    return [
        Row("capacity over vLLM, strict bound", text, figure, figure, strict),
        Row("capacity over vLLM, relaxed bound", "more than 1x", 1.0, None, relaxed),
    ]


ALONE = Claim("sarathi", _cases("claims/sarathi"), lambda found: _judge(("2.6x", 2.6), found))
PIPELINE = Claim(
    "sarathi-pipeline", _cases("claims/sarathi-pipeline"), lambda found: _judge(("up to 5.6x", 5.6), found)
)
