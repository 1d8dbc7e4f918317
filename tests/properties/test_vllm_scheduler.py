"""Invariants of the vLLM scheduler under random loads and every combination of its options."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from random_loads import Load, draw_loads

from simserve.scheduler.batch import Batch
from simserve.testing.harness import Drive

LOADS = 80


class Seen(NamedTuple):
    """One drive of an observed scheduler: `drive` has checked budget, seats, blocks and places all along."""

    load: Load
    scheduler: Any
    result: Drive
    notes: list[Any]


@pytest.fixture(scope="module")
def drives() -> list[Seen]:
    """Each random load, driven once."""
    return [Seen(load, *load.drive(observe=True)) for load in draw_loads(LOADS, key=1)]


def test_every_request_ends_and_every_block_comes_back(drives: list[Seen]) -> None:
    for load, scheduler, result, _ in drives:
        assert sorted(result.finished + result.aborted) == [request.id for request in load.requests], load
        assert scheduler.pool.num_free == load.config.num_gpu_blocks - 1, load
        assert sorted(scheduler.pool.free_block_ids()) == list(range(1, load.config.num_gpu_blocks)), load
        assert not scheduler.running, load
        assert len(scheduler.waiting) == 0, load


def test_outputs_are_what_was_asked_for(drives: list[Seen]) -> None:
    for load, _, result, _ in drives:
        received = dict.fromkeys((request.id for request in load.requests), 0)
        for _, batch in result.batches:
            for request_id, tokens in batch.observed.tokens_out.items():
                received[request_id] += tokens
        for request in load.requests:
            asked = min(request.output_tokens, load.config.max_model_len - request.prompt_tokens)
            if request.id in result.aborted:
                assert received[request.id] < asked, load
            else:
                assert received[request.id] == asked, load


def test_the_bound_on_shared_tokens_changes_no_decision(drives: list[Seen]) -> None:
    """Blocks beyond the bound are only counted; hits, order and memory are as if each had been named."""
    for load, _, tight, _ in drives:
        assert_same_decisions(load.drive(shared=False)[1], tight, load)


def test_observing_changes_no_decision(drives: list[Seen]) -> None:
    for load, _, seen, _ in drives:
        assert_same_decisions(load.drive()[1], seen, load)


def assert_same_decisions(one: Drive, other: Drive, load: Load) -> None:
    assert one.finished == other.finished, load
    assert one.iterations == other.iterations, load
    assert [_shape(entry) for entry in one.batches] == [_shape(entry) for entry in other.batches], load


def _shape(entry: tuple[int, Batch]) -> tuple[Any, ...]:
    iteration, batch = entry
    numbers = (batch.step, batch.prefill_tokens, batch.decodes, batch.context_tokens, batch.window_tokens)
    return (iteration, *numbers, batch.samples, batch.running, batch.waiting, batch.used_blocks)


def test_admissions_keep_the_order_of_the_queue(drives: list[Seen]) -> None:
    """FCFS: first admissions follow arrival; running requests are scheduled in order of admission."""
    for load, _, _, notes in drives:
        check_admissions(load, notes)


def check_admissions(load: Load, notes: list[Any]) -> None:
    order = {request.id: n for n, request in enumerate(sorted(load.requests, key=lambda r: r.arrival_ns))}
    if load.config.policy == "priority":
        order = {}
    admitted: list[int] = []
    seats: list[int] = []
    for _, facts, _ in notes:
        if facts["preempted"]:
            assert not facts["new"]
            assert not facts["resumed"]
        admitted += facts["new"]
        gone = {*facts["preempted"], *seats} - {*facts["running"]}
        seats = [request_id for request_id in seats if request_id not in gone]
        if not facts["preempted"]:
            assert facts["running"][: len(seats)] == seats
        scheduled = [request_id for request_id, _, _ in facts["scheduled"]]
        places = [facts["running"].index(request_id) for request_id in scheduled]
        assert places == sorted(places)
        seats = facts["running"]
    if order:
        positions = [order[request_id] for request_id in admitted]
        assert positions == sorted(positions)
    assert len(set(admitted)) == len(admitted)


def test_hits_are_whole_blocks_short_of_the_prompt(drives: list[Seen]) -> None:
    for load, _, _, notes in drives:
        by_id = {request.id: request for request in load.requests}
        for _, facts, _ in notes:
            computed = {request_id: before for request_id, _, before in facts["scheduled"]}
            for request_id in facts["new"]:
                hit = computed[request_id]
                assert hit % load.config.block_size == 0, load
                assert 0 <= hit < by_id[request_id].prompt_tokens, load
                assert hit <= by_id[request_id].shared_tokens, load
                if not load.config.enable_prefix_caching:
                    assert hit == 0, load
