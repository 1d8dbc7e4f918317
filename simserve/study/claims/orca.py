"""Continuous over static batching: Orca on a 175B model, and Anyscale's benchmark on OPT-13B."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log

from simserve.study.claims.case import Case, Found
from simserve.study.claims.claim import Claim, Row, best_rate, divide, ratio_of

_ENGINE = "pools.0.engine"
# The paper's bound (section 6.2), and twice the latency of this simulation's engine without load, 40 ms.
_BOUNDS = {"190 ms": 0.19, "80 ms": 0.08}
_SIZES = {
    "FasterTransformer 4": (1, 4, 8, 16),
    "FasterTransformer 5": (1, 4, 8, 16),
    "Orca": (8, 16, 32, 64, 128),
}
# The paper names no version of its baseline, as far as it could be read: version 4 (April 2021) feeds what
# the longer prompts have more token by token, version 5 (beta from August 2021 on) pads.
_KINDS = {
    "FasterTransformer 4": ("dynamic", "{context_phase: shortest}"),
    "FasterTransformer 5": ("dynamic", "{context_phase: longest}"),
    "Orca": ("orca", "{reserve: max_tokens}"),
}
# Of the benchmark's scripts: longest output, batch of the static engines, KV tokens of the continuous ones.
_RANGES = ((32, 16, 8700), (128, 12, 7500), (512, 8, 8100), (1536, 4, 8100))
_SYSTEMS = (
    "static, Hugging Face, to the longest of all",
    "static, FasterTransformer",
    "continuous, in one piece",
    "vLLM",
    "static, Hugging Face, to the longest of the batch",
)


def _name(system: str, size: int, bound: str) -> str:
    return f"{system}, batches of {size}, {bound}"


def _orca_case(system: str, size: int, bound: str) -> Case:
    kind, options = _KINDS[system]
    return Case(
        _name(system, size, bound),
        "claims/orca",
        (f"{_ENGINE}.kind={kind}", f"{_ENGINE}.options={options}", f"{_ENGINE}.max_num_seqs={size}"),
        ("mean batch", "padding"),
        (("median s/token", _BOUNDS[bound]),),
    )


def _judge_orca(found: Mapping[str, Found]) -> list[Row]:
    def best(system: str, bound: str) -> float | None:
        return best_rate(found, *(_name(system, size, bound) for size in _SIZES[system]))

    static, padded, orca = (best(system, "190 ms") for system in _SIZES)
    batched = best_rate(found, *(_name("FasterTransformer 4", size, "190 ms") for size in (4, 8, 16)))
    tight = divide(best("Orca", "80 ms"), best("FasterTransformer 4", "80 ms"))
    over = "throughput over FasterTransformer"
    return [
        Row(f"{over} 4 at a median of 190 ms a token", "36.9x", 36.9, 36.9, divide(orca, static)),
        Row(f"{over} 5, which pads prompts, there", "36.9x", 36.9, 36.9, divide(orca, padded)),
        Row("requests/s of FasterTransformer 4 there", "0.185", 0.185, 0.185, static, "{:.2f}"),
        Row("requests/s of FasterTransformer 5 there", "0.185", 0.185, 0.185, padded, "{:.2f}"),
        Row("requests/s of Orca there", "6.81", 6.81, 6.81, orca, "{:.2f}"),
        Row(f"{over} 4 in batches of more than one, there", "", None, None, divide(orca, batched)),
        Row(f"{over} 4 at 80 ms, twice the simulated latency without load", "", None, None, tight),
    ]


ORCA = Claim(
    "orca",
    tuple(
        _orca_case(system, size, bound) for bound in _BOUNDS for system in _SIZES for size in _SIZES[system]
    ),
    _judge_orca,
)


def _exponential(longest: int) -> str:
    """Return quantiles of outputs of 128 tokens on average, drawn again where longer than `longest`."""
    inside = 1 - exp(-longest / 128)
    shares = (0, *(step / 20 for step in range(1, 20)), 0.98, 0.99, 0.999)
    points = {share: max(1, round(-128 * log(1 - share * inside))) for share in shares} | {1: longest}
    return "{quantiles: {" + ", ".join(f"{share}: {value}" for share, value in points.items()) + "}}"


def _longest_of_all(longest: int) -> int:
    """Return the longest of a thousand outputs, as expected: the mean of 128 times the harmonic number."""
    return min(longest, round(128 * sum(1 / number for number in range(1, 1001))))


def _system(name: str, longest: int, static_batch: int, tokens: int) -> tuple[str, ...]:
    """Return the overrides that make the scenario's engine one of the benchmark's systems."""
    if name.startswith("static"):
        batches = (f"{_ENGINE}.kind=static", f"{_ENGINE}.max_num_seqs={static_batch}")
        if "Faster" in name:
            return (*batches, f"{_ENGINE}.host_profile=distserve")
        if "all" in name:  # its server sets min_length = max_length, the most of all thousand requests
            end = f"workload.max_tokens={_longest_of_all(longest)}"
            return (*batches, end, f"{_ENGINE}.options={{run_to: max_tokens}}")
        return batches
    if name == "vLLM":
        return (f"{_ENGINE}.max_num_batched_tokens={tokens}",)
    blocks = f"{_ENGINE}.num_gpu_blocks_override={tokens // 16 + 1}"
    return (f"{_ENGINE}.kind=orca", f"{_ENGINE}.options={{reserve: max_tokens}}", blocks)


def _judge_batching(found: Mapping[str, Found]) -> list[Row]:
    naive, static, continuous, vllm, fair = (f"{name}, up to 1536" for name in _SYSTEMS)
    rows = []
    for name, base, claimed, text, case in (
        ("FasterTransformer", naive, 4.0, "4x", static),
        ("continuous batching", naive, 8.0, "8x", continuous),
        ("vLLM", naive, 23.0, "23x", vllm),
        ("continuous batching", static, 2.0, "2x (8 / 4)", continuous),
        ("vLLM", static, 5.75, "5.8x (23 / 4)", vllm),
    ):
        over = "naive static batches" if base == naive else "FasterTransformer's static batches"
        rows.append(
            Row(f"{name} over {over}", text, claimed, claimed, ratio_of(found, "tokens/s", case, base))
        )
    what = "FasterTransformer over naive static batches that end with their longest output"
    return [*rows, Row(what, "", None, None, ratio_of(found, "tokens/s", static, fair))]


BATCHING = Claim(
    "continuous-batching",
    tuple(
        Case(
            f"{name}, up to {longest}",
            "claims/continuous-batching",
            (f"workload.output_tokens={_exponential(longest)}", *_system(name, longest, batch, tokens)),
            ("tokens/s", "mean batch", "padding", "preemptions"),
        )
        for longest, batch, tokens in _RANGES
        for name in _SYSTEMS
    ),
    _judge_batching,
)
