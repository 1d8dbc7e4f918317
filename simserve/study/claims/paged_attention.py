"""PagedAttention: memory waste, throughput over reserving in one piece, and swapping against recomputing."""

from __future__ import annotations

from collections.abc import Mapping

from simserve.study.claims.case import Case, Found
from simserve.study.claims.claim import NEAR, Claim, Row, ratio_of, ratio_of_rates

_ENGINE = "pools.0.engine"
# Normalised latency at which systems are compared: the middle of the paper's axes (figure 12), s a token.
_BOUND_S = 0.5
# The paper's KV memory, 15.7 K tokens (table 1).
_KV_TOKENS = 15_700
_BLOCK_SIZES = (1, 4, 16, 64, 256)
_MODES = ("recompute", "swap")
_LOADS = {
    "ShareGPT": (),
    # Means as in the paper (figure 11); the spread is a guess: instructions are alike, answers are not.
    "Alpaca": (
        "workload.prompt_tokens={mean: 19.31, cv: 0.5, max: 512}",
        "workload.output_tokens={mean: 58.45, cv: 1.0, max: 1024}",
        "workload.duration_s=300",
    ),
}
_SYSTEMS = {
    "Orca (Max)": (f"{_ENGINE}.kind=orca", f"{_ENGINE}.options={{reserve: max, allocator: buddy}}"),
    "Orca (Pow2)": (f"{_ENGINE}.kind=orca", f"{_ENGINE}.options={{reserve: pow2, allocator: buddy}}"),
    "Orca (Oracle)": (f"{_ENGINE}.kind=orca", f"{_ENGINE}.options={{reserve: oracle, allocator: buddy}}"),
    "vLLM": (),
    # As many as fit if each takes the longest there can be: 15.7 K tokens of 2,048.
    "FasterTransformer": (
        f"{_ENGINE}.kind=dynamic",
        f"{_ENGINE}.max_num_seqs=7",
        f"{_ENGINE}.host_profile=distserve",
    ),
}
_PIECES = ("KV used (one piece)", "KV reserved, not used yet", "KV never used", "KV rounded up", "KV free")
_PAGES = ("used of blocks given out", "used of all blocks")


def _judge_memory(found: Mapping[str, Found]) -> list[Row]:
    rows = []
    for name, claimed in (("Orca (Max)", 20.4), ("Orca (Pow2)", 26.8), ("Orca (Oracle)", 38.2)):
        used = found[name].figures["KV used (one piece)"]
        share = None if used is None else used * 100
        rows.append(
            Row(f"{name}: KV memory that holds tokens", f"{claimed} %", claimed, claimed, share, "{:.1f} %")
        )
    given, total = (found["vLLM"].figures[name] for name in _PAGES)
    rows.append(
        Row("vLLM: the same", "96.3 %", 96.3, 96.3, None if total is None else total * 100, "{:.1f} %")
    )
    waste = None if given is None else (1 - given) * 100
    rows.append(Row("vLLM: waste in the blocks given out", "below 4 %", None, 4.0 / NEAR, waste, "{:.1f} %"))
    for worse, claimed in (("Orca (Oracle)", 2.2), ("Orca (Max)", 4.3)):
        ratio = ratio_of(found, "mean batch", "vLLM", worse)
        rows.append(Row(f"requests in a batch over {worse}", f"{claimed}x", claimed, claimed, ratio))
    return rows


MEMORY = Claim(
    "kv-memory",
    tuple(
        Case(
            name,
            "claims/paged-attention",
            ("workload.arrivals.rate_per_s=2", *_SYSTEMS[name]),
            ("mean batch", *(_PAGES if name == "vLLM" else _PIECES)),
        )
        for name in _SYSTEMS
        if name != "FasterTransformer"
    ),
    _judge_memory,
)


def _judge_rates(found: Mapping[str, Found]) -> list[Row]:
    claims = (
        ("Orca (Oracle)", "1.7x to 2.7x", 1.7, 2.7),
        ("Orca (Max)", "2.7x to 8x", 2.7, 8.0),
        ("FasterTransformer", "up to 22x", None, 22.0),
    )
    rows = [
        Row(
            f"ShareGPT: rate over {worse}",
            text,
            least,
            most,
            ratio_of_rates(found, "vLLM, ShareGPT", f"{worse}, ShareGPT"),
        )
        for worse, text, least, most in claims
    ]
    ratio = ratio_of_rates(found, "vLLM, Alpaca", "Orca (Oracle), Alpaca")
    lean = ratio_of_rates(found, "vLLM, Alpaca, lean host", "Orca (Oracle), Alpaca, lean host")
    return [
        *rows,
        Row("Alpaca: rate over Orca (Oracle)", "as on ShareGPT", 1.7, 2.7, ratio),
        Row("Alpaca: the same with a lean host", "", None, None, lean),
    ]


def _rate_case(name: str, load: str, note: str = "", *more: str) -> Case:
    return Case(
        f"{name}, {load}{note}",
        "claims/paged-attention",
        (*_LOADS[load], *_SYSTEMS[name], *more),
        ("mean batch", "preemptions", "time of prompts alone", "decode step, s"),
        (("mean s/token", _BOUND_S),),
        8.0 if load == "Alpaca" else 1.0,
    )


_LEAN = (", lean host", f"{_ENGINE}.host_profile=distserve")
RATES = Claim(
    "paged-attention",
    (
        *(_rate_case(name, load) for load in _LOADS for name in _SYSTEMS),
        *(_rate_case(name, "Alpaca", *_LEAN) for name in ("Orca (Oracle)", "vLLM")),
    ),
    _judge_rates,
)


def _judge_swapping(found: Mapping[str, Found]) -> list[Row]:
    def ratio(size: int) -> float | None:
        return ratio_of(found, "mean s/token", f"swap, blocks of {size}", f"recompute, blocks of {size}")

    small, large = ratio(_BLOCK_SIZES[0]), ratio(_BLOCK_SIZES[-1])
    middle = [ratio(size) for size in (16, 64)]
    what = "latency of swapping over recomputing, blocks of"
    return [
        Row(f"{what} 1", "above 1: small copies are slow", 1.25, None, small, "{:.2f}x"),
        *(
            Row(f"{what} {size}", "comparable", 1.0, 1.0, value, "{:.2f}x")
            for size, value in zip((16, 64), middle, strict=True)
        ),
        Row(f"{what} 256", "below 1", None, 0.8, large, "{:.2f}x"),
    ]


SWAPPING = Claim(
    "swapping",
    tuple(
        Case(
            f"{mode}, blocks of {size}",
            "claims/swapping",
            (
                f"{_ENGINE}.block_size={size}",
                f"{_ENGINE}.num_gpu_blocks_override={_KV_TOKENS // size}",
                f"{_ENGINE}.options.preemption_mode={mode}",
            ),
            ("mean s/token", "requests/s", "preemptions"),
        )
        for size in _BLOCK_SIZES
        for mode in _MODES
    ),
    _judge_swapping,
)
