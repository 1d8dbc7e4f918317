"""Sarathi-Serve: capacity within a bound on the time between tokens, alone and with a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from simserve.study.claims.case import Case, Found
from simserve.study.claims.claim import Claim, Row, ratio_of_rates

_ENGINE = "pools.0.engine"
# Bounds on the P99 time between tokens and the token budgets that go with them (the authors' scripts), s.
_MODELS = {
    "claims/sarathi": {"strict": (0.1, 512), "relaxed": (0.5, 2048)},
    "claims/sarathi-pipeline": {"strict": (1.0, 512), "relaxed": (5.0, 2048)},
}
# Capacity is where the median request waits 2 s for its first step (section 5.1).
_WAIT_S = 2.0
_FIGURES = ("output tokens/s", "mean batch", "preemptions")


# What might make the difference: a host in C++ (the authors' engine is a fork of vLLM in Python, which runs
# both policies); or faster links, since a good part of a prompt's time goes to all-reduces over PCIe.
_VARIANTS = {
    "claims/sarathi": {"": (), ", lean host": (f"{_ENGINE}.host_profile=distserve",)},
    "claims/sarathi-pipeline": {"": (), ", NVLink": ("pools.0.hardware=a100-sxm-80gb",)},
}


# Drawn through the medians and 90th percentiles that the paper gives for its second trace (table 2), with the
# longest request of the authors' scripts.
_ARXIV = (
    f"{_ENGINE}.max_model_len=16384",
    "workload.prompt_tokens={quantiles: {0: 500, 0.5: 7059, 0.9: 12985, 1: 15300}}",
    "workload.output_tokens={quantiles: {0: 10, 0.5: 208, 0.9: 371, 1: 1000}}",
    "workload.requests=1024",
)


def _cases(scenario: str) -> tuple[Case, ...]:
    cases = []
    for bound, (itl_s, budget) in _MODELS[scenario].items():
        limits = (("P99 ITL, s", itl_s), ("median wait, s", _WAIT_S))
        engines = {
            "Sarathi-Serve": (f"{_ENGINE}.max_num_batched_tokens={budget}",),
            # Its budget is the longest request (`vllm_scheduler_config_max_batched_tokens`).
            "vLLM": (f"{_ENGINE}.kind=vllm-v0", f"{_ENGINE}.max_num_batched_tokens=8192"),
        }
        for note, variant in _VARIANTS[scenario].items():
            for name, changes in engines.items():
                overrides = (*changes, *variant)
                cases.append(Case(f"{name}, {bound}{note}", scenario, overrides, _FIGURES, limits))
    long = [
        replace(case, name=f"{case.name}, arXiv", overrides=(*case.overrides, *_ARXIV)) for case in cases[:2]
    ]
    return (*cases, *long)


def _judge(scenario: str, text: str, figure: float, found: Mapping[str, Found]) -> list[Row]:
    rows = []
    for bound in ("strict", "relaxed"):
        for note in _VARIANTS[scenario]:
            ratio = ratio_of_rates(found, f"Sarathi-Serve, {bound}{note}", f"vLLM, {bound}{note}")
            what = f"capacity over vLLM, {bound} bound{note}"
            if bound == "strict":
                rows.append(Row(what, text, figure, figure, ratio))
            else:
                rows.append(Row(what, "", None, None, ratio))
    ratio = ratio_of_rates(found, "Sarathi-Serve, strict, arXiv", "vLLM, strict, arXiv")
    return [*rows, Row("capacity over vLLM, strict bound, arXiv", text, figure, figure, ratio)]


ALONE = Claim("sarathi", _cases("claims/sarathi"), lambda found: _judge("claims/sarathi", "2.6x", 2.6, found))
PIPELINE = Claim(
    "sarathi-pipeline",
    _cases("claims/sarathi-pipeline"),
    lambda found: _judge("claims/sarathi-pipeline", "up to 5.6x", 5.6, found),
)
