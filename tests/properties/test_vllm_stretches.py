"""Deciding in bulk, and passing whole stretches, gives what deciding step by step gives."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from random_loads import Load, draw_loads, ending_loads

from simserve import registry
from simserve.kvcache.block_pool import BlockPool
from simserve.kvcache.pool import UNKEYED
from simserve.scheduler.batch import Batch, Usage
from simserve.scheduler.config import SchedulerConfig
from simserve.testing.harness import drive
from simserve.workload.request import Request

# Requests, ends, the cache in LRU order; and the usage step by step.
Left = tuple[tuple[Any, ...], list[Usage | None]]


class Kept:
    """Keeps every sequence that a scheduler makes, so that its record can be read after its end."""

    def __init__(self, scheduler: Any) -> None:
        self.sequences: dict[int, Any] = {}
        add = scheduler.add

        def keep(request: Any, arrival_order: float, arrived_ns: int) -> Any:
            sequence = add(request, arrival_order, arrived_ns)
            self.sequences[request.id] = sequence
            return sequence

        scheduler.add = keep

    def records(self) -> dict[int, tuple[Any, ...]]:
        """What the engine writes down about each request."""
        return {request_id: _record(sequence) for request_id, sequence in self.sequences.items()}


def _record(sequence: Any) -> tuple[Any, ...]:
    token_steps = sequence.token_steps
    if token_steps is None:
        first = sequence.first_token_step
        token_steps = range(first, first + sequence.outputs) if first >= 0 else ()
    return (
        sequence.first_step,
        sequence.first_token_step,
        sequence.finish_step,
        sequence.outputs,
        sequence.cached_tokens,
        sequence.preemptions,
        sequence.reason,
        list(token_steps),
        sequence.spans,
    )


def _run(load: Load, *, jump: bool, stretch: Callable[[int], int] | None = None) -> Left:
    """What a run leaves behind: requests, ends, the cache in LRU order; and the usage step by step."""
    scheduler = registry.lookup("engine", "vllm")(load.config, jump=jump)
    kept = Kept(scheduler)
    result = drive(
        scheduler,
        load.config,
        load.arrivals_by_iteration(),
        aborts=load.aborts_by_iteration(),
        max_iterations=20_000,
        stretch=stretch,
    )
    cache = _free_queue(scheduler.pool)
    left = (kept.records(), result.finished, result.aborted, result.iterations, cache)
    return left, result.usage


def _assert_equal(
    load: Load, stretch: Callable[[int], int] | None = None, name: str = "", stepped: Left | None = None
) -> None:
    """A run in bulk (in stretches, if given) leaves behind what a run step by step does."""
    left, used = _run(load, jump=True, stretch=stretch)
    expected, expected_used = stepped or _run(load, jump=False)
    assert left == expected, name or load
    asked = [truth if blocks is None else blocks for blocks, truth in zip(used, expected_used, strict=True)]
    assert asked == expected_used, name or load


def _free_queue(pool: Any) -> list[object]:
    """What the free blocks hold, front first (ids of blocks that only one request can use decide nothing)."""
    if isinstance(pool, BlockPool):
        return [pool._key_of.get(block) for block in pool.free_block_ids()]
    contents: list[object] = []
    for run in pool.free_runs():
        if run.key == UNKEYED:
            contents += ["no hash"] * (run.size - run.hashed) + ["private"] * min(run.size, run.hashed)
        else:
            contents += [run.key + block * pool.block_size for block in reversed(range(run.size))]
    return contents


@pytest.fixture(scope="module")
def stepped() -> list[tuple[Load, Left]]:
    """Random loads, and what they leave behind step by step."""
    return [(load, _run(load, jump=False)) for load in draw_loads(80, key=2)]


def test_bulk_equals_step_by_step(stepped: list[tuple[Load, Left]]) -> None:
    for load, left in stepped:
        _assert_equal(load, stepped=left)


def test_every_batch_in_bulk_equals_the_one_step_by_step() -> None:
    for load in draw_loads(60, key=3):
        _, bulk, bulk_notes = load.drive(observe=True)
        _, steps, step_notes = load.drive(observe=True, jump=False)
        assert bulk_notes == step_notes, load
        assert [_shape(entry) for entry in bulk.batches] == [_shape(entry) for entry in steps.batches], load


def _shape(entry: tuple[int, Batch]) -> tuple[Any, ...]:
    iteration, batch = entry
    numbers = (batch.step, batch.decodes, batch.context_tokens, batch.window_tokens, batch.samples)
    return (iteration, *numbers, batch.chunks, batch.running, batch.waiting, batch.used_blocks)


def test_stretches_of_any_length_equal_step_by_step(stepped: list[tuple[Load, Left]]) -> None:
    draw = random.Random(0)
    for load, left in stepped:
        _assert_equal(load, lambda longest: draw.randint(0, longest), stepped=left)


def test_the_longest_stretches_equal_step_by_step(stepped: list[tuple[Load, Left]]) -> None:
    for load, left in stepped:
        _assert_equal(load, lambda longest: longest, stepped=left)


@pytest.mark.parametrize(
    "share", [pytest.param(1.0, id="longest"), pytest.param(0.5, id="halves", marks=pytest.mark.slow)]
)
def test_stretches_equal_step_by_step_on_the_real_loads(data_dir: Path, share: float) -> None:
    for log, load in ending_loads(data_dir):
        _assert_equal(load, lambda longest: round(longest * share), log.name)


def test_the_real_results_come_out_of_stretches(data_dir: Path) -> None:
    """Outputs, preemptions and hits of every request are the log's, though many steps are skipped."""
    iterations = stretched = 0
    for log, load in ending_loads(data_dir):
        scheduler = registry.lookup("engine", "vllm")(load.config)
        kept = Kept(scheduler)
        result = drive(
            scheduler,
            load.config,
            load.arrivals_by_iteration(),
            aborts=load.aborts_by_iteration(),
            stretch=lambda longest: longest,
            arrival_orders={request.id: request.arrival_time for request in log.requests},
        )
        iterations += result.iterations
        stretched += result.stretched
        for row in log.results:
            sequence = kept.sequences[row["id"]]
            cached = -1 if row["cached_tokens"] is None else row["cached_tokens"]
            expected = (row["n_out"], row["preemptions"], cached)
            got = (sequence.outputs, sequence.preemptions, sequence.cached_tokens)
            assert got == expected, (log.name, row)
    assert stretched > iterations / 10


@pytest.mark.parametrize("stages", [2, 3, 4])
@pytest.mark.parametrize(
    ("outputs", "limit"), [(29, 30), (30, 30), (29, 29), (28, 29), (27, 29), (30, 40), (5, 30)]
)
def test_ends_near_max_model_len_in_a_deep_asynchronous_pipeline(
    stages: int, outputs: int, limit: int
) -> None:
    """There a sequence is scheduled past its unseen end, but never past max_model_len (96 = 66 + 30)."""
    config = SchedulerConfig(
        num_gpu_blocks=40,
        block_size=8,
        max_num_batched_tokens=17,
        max_model_len=96,
        async_scheduling=True,
        pipeline_parallel_size=stages,
    )
    load = Load(config, (Request(0, 0, (), 66, outputs, limit, 1000),), (0,), ())
    _assert_equal(load, lambda longest: longest)
