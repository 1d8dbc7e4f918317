"""Deciding in bulk, and passing whole stretches, gives what deciding step by step gives."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_loads import LOADS, Load, loads

from simserve import registry
from simserve.conformance.golden import GoldenLog, find_logs, read_log
from simserve.conformance.shared_tokens import count_shared_tokens
from simserve.conformance.vllm import build_config, build_request
from simserve.scheduler.batch import Batch
from simserve.testing.harness import drive


class Kept:
    """Keeps every sequence that a scheduler makes, so that its record can be read after its end."""

    def __init__(self, scheduler: Any) -> None:
        self.sequences: dict[int, Any] = {}
        add = scheduler.add

        def keep(request: Any, arrival_order: float) -> Any:
            sequence = add(request, arrival_order)
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


def _run(load: Load, *, jump: bool, stretch: Callable[[int], int] | None = None) -> tuple[Any, ...]:
    """Everything that a run leaves behind: requests, order of ends, blocks step by step, the free queue."""
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
    queue = scheduler.pool.free_block_ids()
    return kept.records(), result.finished, result.aborted, result.iterations, result.used_blocks, queue


@LOADS
@given(loads())
def test_bulk_equals_step_by_step(load: Load) -> None:
    assert _run(load, jump=True) == _run(load, jump=False)


@LOADS
@given(loads())
def test_every_batch_in_bulk_equals_the_one_step_by_step(load: Load) -> None:
    _, bulk, bulk_notes = load.drive(observe=True)
    _, steps, step_notes = load.drive(observe=True, jump=False)
    assert bulk_notes == step_notes
    assert [_shape(entry) for entry in bulk.batches] == [_shape(entry) for entry in steps.batches]


def _shape(entry: tuple[int, Batch]) -> tuple[Any, ...]:
    iteration, batch = entry
    numbers = (batch.step, batch.decodes, batch.context_tokens, batch.window_tokens, batch.samples)
    return (iteration, *numbers, batch.chunks, batch.running, batch.waiting, batch.used_blocks)


@LOADS
@given(loads(), st.integers(0, 2**32))
def test_stretches_of_any_length_equal_step_by_step(load: Load, seed: int) -> None:
    draw = random.Random(seed)
    stretched = _run(load, jump=True, stretch=lambda longest: draw.randint(0, longest))
    assert stretched == _run(load, jump=False)


@LOADS
@given(loads())
def test_the_longest_stretches_equal_step_by_step(load: Load) -> None:
    assert _run(load, jump=True, stretch=lambda longest: longest) == _run(load, jump=False)


def _golden_loads(data_dir: Path) -> list[tuple[GoldenLog, Load]]:
    found = []
    for path in find_logs([data_dir / "golden" / "vllm"]):
        log = read_log(path)
        assert log is not None
        if any(row["reason"] is None for row in log.results):
            continue  # the real scheduler hangs
        shared = count_shared_tokens(log.requests)
        load = Load(
            config=build_config(log),
            requests=tuple(build_request(request, shared[request.id]) for request in log.requests),
            arrivals=tuple(request.arrival for request in log.requests),
            aborts=tuple((at, request_id) for at, ids in log.aborts.items() for request_id in ids),
        )
        found.append((log, load))
    return found


@pytest.mark.parametrize("share", [1.0, 0.5], ids=["longest", "halves"])
def test_stretches_equal_step_by_step_on_the_real_loads(data_dir: Path, share: float) -> None:
    for log, load in _golden_loads(data_dir):
        stretched = _run(load, jump=True, stretch=lambda longest: round(longest * share))
        assert stretched == _run(load, jump=False), log.name


def test_the_real_results_come_out_of_stretches(data_dir: Path) -> None:
    """Outputs, preemptions and hits of every request are those of the log, though most steps are skipped."""
    iterations = stretched = 0
    for log, load in _golden_loads(data_dir):
        if load.config.policy == "priority":
            continue  # their tie-break is an arrival time that an iteration cannot express
        scheduler = registry.lookup("engine", "vllm")(load.config)
        kept = Kept(scheduler)
        result = drive(
            scheduler,
            load.config,
            load.arrivals_by_iteration(),
            aborts=load.aborts_by_iteration(),
            stretch=lambda longest: longest,
        )
        iterations += result.iterations
        stretched += result.stretched
        for row in log.results:
            sequence = kept.sequences[row["id"]]
            hit = max(sequence.cached_tokens, 0) if row["cached_tokens"] is not None else -1
            expected = (row["n_out"], row["preemptions"], -1 if hit < 0 else row["cached_tokens"])
            assert (sequence.outputs, sequence.preemptions, hit) == expected, (log.name, row)
    assert stretched > iterations / 10
