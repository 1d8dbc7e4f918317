"""What is measured: cases of each table, in an order in which every beginning is a fair sample."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

# Token counts around the sizes at which tiles and waves change, as serving meets them.
TOKENS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096, 8192)
# N x K of layers of 7 to 70 billion parameters under tensor parallelism, wide and narrow, plus powers of two:
# sixteen such shapes fit a GEMM model that predicts hundreds of others (docs/background/accuracy.md).
GEMM_SHAPES = (
    (4096, 4096), (6144, 4096), (1536, 4096), (28672, 4096), (7168, 4096), (4096, 14336), (4096, 3584),
    (10240, 8192), (2560, 8192), (8192, 8192), (8192, 1024), (57344, 8192), (14336, 8192), (8192, 28672),
    (8192, 7168), (1024, 1024), (2048, 2048), (32768, 4096), (16384, 16384),
)  # fmt: skip
# Query heads, KV heads, head size: MHA, GQA in groups of 4 and 8, MQA.
HEADS = ((32, 8, 128), (8, 2, 128), (64, 8, 128), (8, 1, 128), (32, 32, 128), (32, 8, 64))
WIDTHS = (1024, 2048, 4096, 8192, 14336)
MESSAGE_BYTES = tuple(2**power for power in range(10, 29))
COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "alltoall", "send_recv")
COPY_BYTES = tuple(2**power for power in range(12, 31, 2))
# Copies of a weight that are used in turn, as the layers of a model are: one alone would stay in the cache.
WEIGHT_COPIES = 6
# A KV cache or an input larger than this share of the memory is left out.
MEMORY_SHARE = 0.3


@dataclass(frozen=True)
class Case:
    """One measurement.

    Attributes:
        table: The table that it belongs to ("gemm", "attn_decode", ...).
        columns: The table's columns that describe it, without those of the machine.
        operand_bytes: What it needs in memory, roughly.
    """

    table: str
    columns: Mapping[str, Any]
    operand_bytes: float


def plan_cases(
    dtypes: Sequence[str], memory_bytes: float, gpus: int = 1, gemm_shapes: Sequence[tuple[int, int]] = ()
) -> list[Case]:
    """List the cases, the tables taken in turns, each from coarse to fine.

    Args:
        dtypes: Of GEMMs; the first one is that of everything else.
        memory_bytes: Of the GPU: larger operands are left out.
        gpus: Collectives are measured from two on.
        gemm_shapes: N x K to measure besides `GEMM_SHAPES`.
    """
    plain = dtypes[0]
    shapes = (*gemm_shapes, *(shape for shape in GEMM_SHAPES if shape not in gemm_shapes))
    families = [
        *(list(_gemms(shapes, dtype)) for dtype in dtypes),
        list(_decodes(plain)),
        list(_prefills(plain)),
        list(_mixed(plain)),
        list(_elementwise(plain)),
        list(_copies()),
    ]
    if gpus > 1:
        families.append(list(_collectives(plain, gpus)))
    fitting = [
        [case for case in family if case.operand_bytes < MEMORY_SHARE * memory_bytes] for family in families
    ]
    return list(take_turns([coarse_to_fine(family) for family in fitting]))


def coarse_to_fine(cases: Sequence[Case]) -> list[Case]:
    """Order cases so that every beginning of the list is spread over it (van der Corput's sequence)."""
    bits = max(1, (len(cases) - 1).bit_length())
    places = (int(f"{number:0{bits}b}"[::-1], 2) for number in range(2**bits))
    return [cases[place] for place in places if place < len(cases)]


def take_turns(families: Sequence[Sequence[Case]]) -> Iterator[Case]:
    """Yield from all families at the pace of their lengths, so that they end together."""
    placed = [
        ((index + 0.5) / len(family), number, case)
        for number, family in enumerate(families)
        for index, case in enumerate(family)
    ]
    yield from (case for _, _, case in sorted(placed, key=lambda entry: entry[:2]))


def shapes_of_model(config: Path, ranks: Iterable[int] = (1,)) -> list[tuple[int, int]]:
    """Return the N x K of a dense model's layers, from its config.json, for each number of ranks."""
    content = json.loads(config.read_text(encoding="utf-8"))
    content = {**content, **content.get("text_config", {})}
    hidden, heads = content["hidden_size"], content["num_attention_heads"]
    kv_heads = content.get("num_key_value_heads") or heads
    head_dim = content.get("head_dim") or hidden // heads
    inner, vocab = content["intermediate_size"], content["vocab_size"]
    found: dict[tuple[int, int], None] = {}
    for tp in ranks:
        queries = heads // tp * head_dim
        found[(queries + 2 * max(1, kv_heads // tp) * head_dim, hidden)] = None
        found[(hidden, queries)] = None
        found[(2 * inner // tp, hidden)] = None
        found[(hidden, inner // tp)] = None
        found[(vocab // tp, hidden)] = None
    return list(found)


def _gemms(shapes: Sequence[tuple[int, int]], dtype: str) -> Iterator[Case]:
    size = 1 if dtype == "fp8" else 2
    for m, (n, k) in product(TOKENS, shapes):
        operand_bytes = size * (WEIGHT_COPIES * n * k + m * k) + 2 * m * n
        yield Case("gemm", {"dtype": dtype, "op": "gemm", "M": m, "N": n, "K": k}, operand_bytes)


def _heads(heads: tuple[int, int, int], dtype: str) -> dict[str, Any]:
    return {"dtype": dtype, "kv_dtype": dtype, "heads": heads[0], "kv_heads": heads[1], "head_dim": heads[2]}


def _decodes(dtype: str) -> Iterator[Case]:
    for batch, kv_len, heads in product(
        (1, 2, 4, 8, 16, 32, 64, 128, 256), (128, 512, 2048, 8192, 32768), HEADS
    ):
        kv_bytes = 4 * batch * kv_len * heads[1] * heads[2]
        yield Case(
            "attn_decode", {**_heads(heads, dtype), "batch": batch, "kv_len": kv_len, "window": 0}, kv_bytes
        )


def _prefills(dtype: str) -> Iterator[Case]:
    sizes = ((1, 0), (1, 2048), (1, 8192), (4, 0), (16, 0))
    for (batch, prefix), q_len, heads in product(
        sizes, (16, 64, 128, 256, 512, 1024, 2048, 4096, 8192), HEADS
    ):
        if batch * q_len <= 32768:
            columns = {"batch": batch, "q_len": q_len, "kv_prefix": prefix, "window": 0}
            kv_bytes = 4 * batch * (prefix + q_len) * heads[1] * heads[2]
            yield Case("attn_prefill", {**_heads(heads, dtype), **columns}, 2 * kv_bytes)


def _mixed(dtype: str) -> Iterator[Case]:
    grid = product((16, 64, 256, 1024, 2048), (0, 4096), (1, 8, 32, 128), (256, 2048, 8192), HEADS[:3])
    for chunk, prefix, decodes, kv_len, heads in grid:
        columns = {"prefill_chunk": chunk, "kv_prefill": prefix, "n_decode": decodes, "kv_decode": kv_len}
        kv_bytes = 4 * (decodes * kv_len + prefix + chunk) * heads[1] * heads[2]
        described = {name: value for name, value in _heads(heads, dtype).items() if name != "kv_dtype"}
        yield Case("attn_mixed", {**described, **columns}, kv_bytes)


def _elementwise(dtype: str) -> Iterator[Case]:
    for tokens, width, op in product(TOKENS, WIDTHS, ("layernorm", "act_fn", "rotary_emb", "add")):
        columns = {"dtype": dtype, "op": op, "tokens": tokens, "width": width, "gated": 1}
        yield Case("elementwise", columns, 8 * tokens * width)


def _copies() -> Iterator[Case]:
    for bytes_, direction in product(COPY_BYTES, ("device_to_device", "host_to_device", "device_to_host")):
        yield Case("copy", {"op": direction, "bytes": bytes_}, 2 * bytes_)


def _collectives(dtype: str, gpus: int) -> Iterator[Case]:
    groups = [ranks for ranks in (2, 4, 8) if ranks <= gpus]
    for bytes_, ranks, op in product(MESSAGE_BYTES, groups, COLLECTIVES):
        columns = {"dtype": dtype, "op": op, "num_gpus": ranks, "bytes": bytes_, "elem_size": 2}
        if op != "send_recv" or ranks == 2:
            yield Case("comm", columns, 4 * bytes_)
