"""vLLM's scheduler with tiers behind its KV pool, under random loads, delays and options."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from random_loads import LOADS, Load, loads
from test_vllm_stretches import Kept, _free_queue

from simserve import registry
from simserve.kvcache.cache_plan import CachePlan, TierPlan
from simserve.kvcache.tier import TierSpec
from simserve.scheduler.batch import Batch, Landing, Transfer, Usage
from simserve.scheduler.config import KVGroup, SchedulerConfig
from simserve.testing.harness import drive
from simserve.workload.request import Request, Segment

STEP_NS = 1_000_000
FEWER = settings(LOADS, max_examples=14)


class SlowLinks:
    """Paths on which a token's bytes take a while, one transfer after the other."""

    def __init__(self, token_ns: int) -> None:
        self._token_ns = token_ns
        self._free: dict[int, int] = {}
        self._landed: dict[int, int] = {}
        self.started = 0

    def start(self, transfer: Transfer, now_ns: int) -> Landing:
        """Begin when the path is free and what it reads has landed."""
        self.started += 1
        begin = max([now_ns, self._free.get(transfer.path, 0), *map(self.landed_at, transfer.after)])
        end = begin + transfer.size_bytes * self._token_ns
        self._free[transfer.path] = end
        self._landed[transfer.ticket] = end
        return Landing(begin, end)

    def free_at(self, path: int) -> int:
        """When the last transfer on a path ends."""
        return self._free.get(path, 0)

    def landed_at(self, ticket: int) -> int:
        """When a transfer lands."""
        return self._landed.get(ticket, 0)

    def forget_landed(self, now_ns: int) -> None:
        """Nothing is forgotten."""


@st.composite
def tiered_loads(draw: st.DrawFn) -> tuple[Load, int]:
    """A load with tiers of a byte a token, and how long a token takes on a path."""
    load = draw(loads())
    size = load.config.block_size
    chunk = size * draw(st.sampled_from([1, 1, 2, 3]))
    specs = [TierSpec("host", chunk * draw(st.sampled_from([1, 4, 40, 400])), 1e9)]
    if draw(st.booleans()):
        write: Any = draw(st.sampled_from(["through", "back", "second_use"]))
        specs.append(TierSpec("nvme", chunk * draw(st.sampled_from([4, 400])), 1e8, write=write))
    slow = draw(st.integers(0, 3)) == 0
    plan = TierPlan(
        tuple(specs),
        tuple(draw(st.booleans()) for _ in specs),
        bytes_per_token=1,
        chunk_tokens=chunk,
        prefetch=draw(st.booleans()),
        load=draw(st.sampled_from(["async", "async", "async", "blocking", "layerwise"])),
        # Computing is sooner for the first tokens: what is behind them is loaded.
        recompute_s=(lambda history, tokens: 1e-9 * tokens * (history + tokens) / 16) if slow else None,
    )
    config = replace(load.config, kv_groups=(KVGroup(),), cache=CachePlan(tiers=plan))
    if plan.load == "async" and (config.policy == "priority" or config.speculative is not None):
        # Room for all: else the head may wait for ever for blocks that a loaded one behind it holds .
        config = replace(config, num_gpu_blocks=16 * config.num_gpu_blocks)
    return replace(load, config=config), draw(st.sampled_from([0, 1_000, 60_000, 400_000]))


def build(load: Load, token_ns: int, **options: Any) -> Any:
    scheduler = registry.lookup("engine", "vllm")(load.config, **options)
    scheduler.connector.links = SlowLinks(token_ns)
    return scheduler


def run(load: Load, token_ns: int, stretch: Callable[[int], int] | None = None, **options: Any) -> Any:
    """What a run leaves behind: requests, ends, memory and tiers; the usage step by step; what moved when."""
    scheduler = build(load, token_ns, **options)
    kept = Kept(scheduler)
    moved: list[Any] = []

    def note(iteration: int, batch: Batch | None) -> None:
        links = scheduler.connector.links
        if links.started or (batch is not None and batch.transfers):
            moved.append((iteration, links.started, batch.transfers if batch is not None else None))
            links.started = 0

    result = drive(
        scheduler,
        load.config,
        load.arrivals_by_iteration(),
        aborts=load.aborts_by_iteration(),
        max_iterations=20_000,
        observer=note,
        stretch=stretch,
        step_ns=STEP_NS,
    )
    scheduler.schedule(1 << 60)  # what was loaded for a request that had ended has landed by then
    scheduler.check_integrity()
    tiers = {name: replace(counts) for name, counts in scheduler.tier_counts.items()}
    contents = [list(tier.chunks) for tier in scheduler.tiers._stack.tiers]
    ends = (result.finished, result.aborted, result.iterations)
    left = (kept.records(), ends, _free_queue(scheduler.pool), tiers, contents, moved)
    return left, result.usage, scheduler


def assert_equal(case: tuple[Load, int], stretch: Callable[[int], int] | None = None) -> None:
    left, usage, _ = run(*case, stretch, jump=True)
    expected, expected_usage, _ = run(*case, jump=False)
    assert left == expected
    asked: list[Usage | None] = [
        truth if each is None else each for each, truth in zip(usage, expected_usage, strict=True)
    ]
    assert asked == expected_usage


@FEWER
@given(tiered_loads())
def test_every_request_ends_and_every_block_comes_back(case: tuple[Load, int]) -> None:
    load, _ = case
    left, _, scheduler = run(*case)
    _, (finished, aborted, _), *_ = left
    assert sorted(finished + aborted) == [request.id for request in load.requests]
    assert scheduler.pool.num_free == load.config.num_gpu_blocks - 1
    assert not scheduler.running
    assert len(scheduler.waiting) == 0


@FEWER
@given(tiered_loads())
def test_bulk_equals_step_by_step(case: tuple[Load, int]) -> None:
    assert_equal(case)


@FEWER
@given(tiered_loads(), st.integers(0, 2**32))
def test_stretches_of_any_length_equal_step_by_step(case: tuple[Load, int], seed: int) -> None:
    draw = random.Random(seed)
    assert_equal(case, lambda longest: draw.randint(0, longest))


@FEWER
@given(tiered_loads())
def test_the_longest_stretches_equal_step_by_step(case: tuple[Load, int]) -> None:
    assert_equal(case, lambda longest: longest)


@FEWER
@given(tiered_loads())
def test_tables_by_ids_decide_the_same(case: tuple[Load, int]) -> None:
    by_runs, usage, _ = run(*case)
    by_ids, id_usage, _ = run(*case, observe=True)
    assert by_ids[:2] == by_runs[:2]
    assert by_ids[3:] == by_runs[3:]
    assert [used for used, _ in id_usage] == [used for used, _ in usage]


def race(late: int) -> Load:
    """A chat whose blocks are made twice, by loading (2) and by decoding (3); somebody (4) comes for them."""
    plan = TierPlan((TierSpec("host", 400, 1e9),), (False,), 1, chunk_tokens=8, load="async")
    config = SchedulerConfig(num_gpu_blocks=20, block_size=4, max_model_len=76, cache=CachePlan(tiers=plan))

    def ask(number: int, prompt: tuple[Segment, ...], outputs: int, stream: int) -> Request:
        tokens = sum(segment.length for segment in prompt)
        return Request(number, 0, prompt, tokens, outputs, outputs, stream, tokens + outputs)

    head, tail = Segment(7, 0, 4), Segment(5, 0, 16)
    requests = (
        ask(0, (head,), 20, 5),
        ask(1, (Segment(6, 0, 75),), 1, 101),  # drops what the first has left on the GPU
        ask(2, (head, tail), 20, 102),
        ask(3, (head,), 20, 5),
        ask(4, (head, tail), 1, 104),
    )
    return Load(config, requests, (0, 30, 33, 34, late), ())


def test_outputs_that_are_being_loaded_are_published_in_every_step() -> None:
    """Who was first decides whose blocks are found."""
    assert_equal((race(56), STEP_NS // 4))


def test_no_stretch_passes_a_request_that_waits_for_another_load() -> None:
    """What is decoded meanwhile may serve it before the load has landed."""
    assert_equal((race(36), STEP_NS), lambda longest: longest)
    _, _, scheduler = run(race(36), STEP_NS)
    assert scheduler.tier_counts["host"].read_bytes == 16
