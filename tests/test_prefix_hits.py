"""Prefix hits of whole runs against an ideal cache of the same size, on a real trace."""

from __future__ import annotations

import json
from collections import OrderedDict
from itertools import islice
from pathlib import Path

import pytest

from simserve import load_scenario, simulate
from simserve.workload.formats.mooncake import BLOCK_TOKENS
from simserve.workload.ideal_hits import ideal_hit_tokens
from simserve.workload.json_rows import read_jsonl
from simserve.workload.trace import read_trace

TRACE = "traces/mooncake/conversation_trace.jsonl.gz"
REQUESTS = 1500
BLOCK = 16


@pytest.fixture(scope="module")
def trace(data_dir: Path) -> Path:
    return data_dir / TRACE


def hit_rate(trace: Path, blocks: int) -> float:
    """Simulate one instance with so many KV blocks and steps of 0.1 ms: as good as no queue."""
    scenario = {
        "model": "llama-3.1-8b",
        "workload": {"trace": {"path": str(trace), "limit": REQUESTS}},
        "pools": {"hardware": "h100-sxm", "engine": {"num_gpu_blocks_override": blocks}},
        "cost": {"kind": "constant", "base_s": 0.0001},
    }
    summary = simulate(load_scenario(json.dumps(scenario))).summary
    assert summary["completed"] == REQUESTS
    rate: float = summary["prefix_cache_hit_rate"]
    return rate


def ideal_rate(trace: Path, blocks: int) -> float:
    """Hits of one LRU cache in which a request appears whole, the moment it arrives (in 512-token blocks)."""
    cache: OrderedDict[int, None] = OrderedDict()
    hits = tokens = outputs = 0
    for record in islice(read_jsonl(trace), REQUESTS):
        prompt = record.tokens("input_length")
        ids = list(record.integers("hash_ids")[: prompt // BLOCK_TOKENS])
        leading = next((place for place, each in enumerate(ids) if each not in cache), len(ids))
        hits += leading * BLOCK_TOKENS
        tokens += prompt
        rest = (prompt % BLOCK_TOKENS + record.tokens("output_length")) // BLOCK_TOKENS
        ids += range(-outputs - rest, -outputs)
        outputs += rest
        for each in reversed(ids):  # the tail is given up first
            cache[each] = None
            cache.move_to_end(each)
        while len(cache) > blocks * BLOCK // BLOCK_TOKENS:
            cache.popitem(last=False)
    return hits / tokens


def test_a_boundless_cache_hits_what_is_ideal(trace: Path) -> None:
    """To the token, except that an aligned prompt that is cached whole computes its last block again."""
    workload = read_trace(trace).head(REQUESTS)
    tokens = int(workload.prompt_tokens.sum())
    ideal = ideal_hit_tokens(workload, BLOCK)
    found = hit_rate(trace, 10_000_000) * tokens
    assert ideal - BLOCK * REQUESTS / 100 <= found <= ideal + 0.5
    assert ideal / tokens > 0.2


@pytest.mark.parametrize("blocks", [30_000, 120_000])
def test_a_cache_of_some_size_hits_nearly_what_is_ideal(trace: Path, blocks: int) -> None:
    """Running requests hold blocks, and enter the queue only when they end: a few hits less, or more."""
    assert hit_rate(trace, blocks) == pytest.approx(ideal_rate(trace, blocks), rel=0.05)
    assert ideal_rate(trace, blocks) < 0.98 * ideal_rate(trace, 10_000_000)
