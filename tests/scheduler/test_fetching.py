"""Kinds of the base with tiers: steps or requests wait for what is fetched."""

from __future__ import annotations

from typing import Any

import pytest

from simserve.engine.transfers import TransferClock
from simserve.kvcache.cache_plan import CachePlan, Load, TierPlan
from simserve.kvcache.tier import TierSpec
from simserve.registry import lookup
from simserve.scheduler.config import SchedulerConfig
from simserve.workload.request import Request, Segment

BLOCK = 4
CHUNK = 8
# PCIe at 1,000 bytes per second: a chunk of eight tokens of a byte takes 8 ms.
CHUNK_NS = 8_000_000


def build(kind: str, load: Load, **options: Any) -> Any:
    """A scheduler with twenty blocks on the GPU, and links that a test can look at."""
    tiers = TierPlan((TierSpec("host", 1000, 1000.0),), (False,), 1, chunk_tokens=CHUNK, load=load, layers=2)
    config = SchedulerConfig(
        21, BLOCK, max_num_seqs=4, max_num_batched_tokens=64, max_model_len=80, cache=CachePlan(tiers=tiers),
        enable_chunked_prefill=kind != "vllm-v0",
    )  # fmt: skip
    scheduler = lookup("engine", kind)(config, **options)
    scheduler.connector.links = TransferClock(1000.0, 1e12)
    return scheduler


def request(number: int, stream: int, tokens: int, outputs: int = 1) -> Request:
    prompt = Segment(stream, 0, tokens)
    return Request(number, 0, (prompt,), tokens, outputs, outputs, 100 + number, tokens)


def fill(scheduler: Any) -> int:
    """Serve a prompt of 32 tokens and others that push it out of the GPU; return the time."""
    for number, stream in enumerate((1, 2, 3)):
        scheduler.add(request(number, stream, 32), number)
        assert scheduler.schedule(number) is not None
        scheduler.complete()
    for number, stream in ((3, 4), (4, 5)):
        scheduler.add(request(number, stream, 32), number)
        assert scheduler.schedule(number) is not None
        scheduler.complete()
    assert not scheduler.sequences
    return 1_000_000_000


@pytest.mark.parametrize(("load", "layers"), [("blocking", 0), ("layerwise", 2)])
def test_a_step_waits_for_what_is_fetched(load: Load, layers: int) -> None:
    scheduler = build("sarathi", load)
    now = fill(scheduler)
    scheduler.add(request(9, 1, 33), 9)
    batch = scheduler.schedule(now)
    fetch = next(each for each in batch.transfers if each.awaited)
    assert (fetch.size_bytes, fetch.layers) == (32, layers)
    assert batch.prefill_tokens == 1
    assert scheduler.wake_at(now) is None


@pytest.mark.parametrize("kind", ["sarathi", "vllm-v0", "tensorrt-llm"])
def test_a_request_waits_while_others_go_on(kind: str) -> None:
    scheduler = build(kind, "async")
    now = fill(scheduler)
    scheduler.add(request(8, 8, 8, outputs=5), 8)
    first = scheduler.schedule(now)
    assert [entry.sequence.id for entry in first.entries] == [8]
    scheduler.complete()
    scheduler.add(request(9, 1, 33, outputs=2), 9)
    # Its four chunks are under way: others decode, and it keeps its blocks.
    landing = now + 1 + 4 * CHUNK_NS
    steps = [scheduler.schedule(now + 1)]
    waiting = scheduler.sequences[9]
    if kind == "vllm-v0":  # whole prompts come first: its step was for them, and there was none to run
        assert waiting.computed == 32
    assert scheduler.cache.capacity_tokens(waiting) >= 33
    assert scheduler.wake_at(now + 1) == landing
    # The others' steps can be passed up to the landing, which the engine knows from `wake_at`.
    assert (scheduler.horizon(), scheduler.horizon(owed=1)) == (3, -1)
    for at in (now + 2, landing - 1):
        if steps[-1] is not None:
            scheduler.complete()
        steps.append(scheduler.schedule(at))
        scheduler.check_integrity()
    assert all(not batch.entries for batch in steps if batch is not None)
    assert sum(batch.decodes for batch in steps if batch is not None) >= 2
    scheduler.complete()
    batch = scheduler.schedule(landing)
    assert [(entry.sequence.id, entry.tokens, entry.computed_before) for entry in batch.entries] == [
        (9, 1, 32)
    ]
    assert batch.entries[0].samples
    assert scheduler.wake_at(landing) is None
    scheduler.check_integrity()


def test_an_empty_engine_wakes_when_the_bytes_have_landed() -> None:
    scheduler = build("sarathi", "async")
    now = fill(scheduler)
    scheduler.add(request(9, 1, 33), 9)
    assert scheduler.schedule(now) is None
    assert (len(scheduler.waiting), len(scheduler.running)) == (0, 1)
    assert scheduler.wake_at(now) == now + 4 * CHUNK_NS
    batch = scheduler.schedule(now + 4 * CHUNK_NS)
    assert batch.prefill_tokens == 1
    assert [each.id for each in scheduler.complete()] == [9]


def test_one_who_gives_up_while_loading_leaves_nothing_behind() -> None:
    scheduler = build("sarathi", "async")
    now = fill(scheduler)
    scheduler.add(request(9, 1, 33), 9)
    assert scheduler.schedule(now) is None
    assert scheduler.abort(9) is not None
    scheduler.check_integrity()
    assert scheduler.pool.num_free == 20
    assert scheduler.wake_at(now) is None
    # The path is held all the same.
    scheduler.add(request(10, 2, 33), 10)
    assert scheduler.schedule(now + 1) is None
    assert scheduler.wake_at(now + 1) == now + 8 * CHUNK_NS


def test_what_is_on_the_gpu_needs_no_landing() -> None:
    scheduler = build("sarathi", "async")
    scheduler.add(request(0, 1, 32), 0)
    scheduler.schedule(0)
    scheduler.complete()
    scheduler.add(request(1, 1, 33), 1)
    batch = scheduler.schedule(1)
    assert batch.prefill_tokens == 1
    assert batch.transfers is None
