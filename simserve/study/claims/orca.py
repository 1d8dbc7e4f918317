"""Continuous over static batching: Orca on a 175B model, and Anyscale's benchmark on OPT-13B."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log

from simserve.study.claims.case import Case, Found
from simserve.study.claims.claim import Claim, Row, best_rate, divide, ratio_of

_ENGINE = "pools.0.engine"
# The paper's bound (section 6.2), and twice the latency of this simulation's engine without load, 40 ms.
_BOUNDS = {"190 ms": 0.19, "80 ms": 0.08}
_SIZES = {"dynamic": (1, 4, 8, 16), "orca": (8, 16, 32, 64, 128)}
_KINDS = {"dynamic": "FasterTransformer", "orca": "Orca"}
# Of the benchmark's scripts: longest output, batch of the static engines, KV tokens of the continuous ones.
_RANGES = ((32, 16, 8700), (128, 12, 7500), (512, 8, 8100), (1536, 4, 8100))
_SYSTEMS = ("static, Hugging Face", "static, FasterTransformer", "continuous, in one piece", "vLLM")


def _name(kind: str, size: int, bound: str) -> str:
    return f"{_KINDS[kind]}, batches of {size}, {bound}"


def _orca_case(kind: str, size: int, bound: str) -> Case:
    options = "{reserve: max_tokens}" if kind == "orca" else "{}"
    return Case(
        _name(kind, size, bound),
        "claims/orca",
        (f"{_ENGINE}.kind={kind}", f"{_ENGINE}.options={options}", f"{_ENGINE}.max_num_seqs={size}"),
        ("mean batch", "padding"),
        (("median s/token", _BOUNDS[bound]),),
    )


def _judge_orca(found: Mapping[str, Found]) -> list[Row]:
    def best(kind: str, bound: str) -> float | None:
        return best_rate(found, *(_name(kind, size, bound) for size in _SIZES[kind]))

    static, orca = best("dynamic", "190 ms"), best("orca", "190 ms")
    one = best_rate(found, _name("dynamic", 1, "190 ms"))
    tight = divide(best("orca", "80 ms"), best("dynamic", "80 ms"))
    over = "throughput over FasterTransformer"
    return [
        Row(f"{over} at a median of 190 ms a token", "36.9x", 36.9, 36.9, divide(orca, static)),
        Row("requests/s of FasterTransformer there", "0.185", 0.185, 0.185, static, "{:.2f}"),
        Row("requests/s of Orca there", "6.81", 6.81, 6.81, orca, "{:.2f}"),
        Row(f"{over} without batches, same bound", "", None, None, divide(orca, one)),
        Row(f"{over} at 80 ms, twice the simulated latency without load", "", None, None, tight),
    ]


ORCA = Claim(
    "orca",
    tuple(_orca_case(kind, size, bound) for bound in _BOUNDS for kind in _SIZES for size in _SIZES[kind]),
    _judge_orca,
)


def _exponential(longest: int) -> str:
    """Return quantiles of outputs of 128 tokens on average, drawn again where longer than `longest`."""
    inside = 1 - exp(-longest / 128)
    shares = (0, *(step / 20 for step in range(1, 20)), 0.98, 0.99, 0.999)
    points = {share: max(1, round(-128 * log(1 - share * inside))) for share in shares} | {1: longest}
    return "{quantiles: {" + ", ".join(f"{share}: {value}" for share, value in points.items()) + "}}"


def _system(name: str, static_batch: int, tokens: int) -> tuple[str, ...]:
    """Return the overrides that make the scenario's engine one of the benchmark's systems."""
    if name.startswith("static"):
        host = "distserve" if "Faster" in name else "vllm-0.2"
        return (
            f"{_ENGINE}.kind=static",
            f"{_ENGINE}.max_num_seqs={static_batch}",
            f"{_ENGINE}.host_profile={host}",
        )
    if name == "vLLM":
        return (f"{_ENGINE}.max_num_batched_tokens={tokens}",)
    blocks = f"{_ENGINE}.num_gpu_blocks_override={tokens // 16 + 1}"
    return (f"{_ENGINE}.kind=orca", f"{_ENGINE}.options={{reserve: max_tokens}}", blocks)


def _judge_batching(found: Mapping[str, Found]) -> list[Row]:
    naive, static, continuous, vllm = (f"{name}, up to 1536" for name in _SYSTEMS)
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
    return rows


BATCHING = Claim(
    "continuous-batching",
    tuple(
        Case(
            f"{name}, up to {longest}",
            "claims/continuous-batching",
            (f"workload.output_tokens={_exponential(longest)}", *_system(name, batch, tokens)),
            ("tokens/s", "mean batch", "padding", "preemptions"),
        )
        for longest, batch, tokens in _RANGES
        for name in _SYSTEMS
    ),
    _judge_batching,
)
