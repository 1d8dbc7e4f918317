"""Invariants of the vLLM scheduler under random loads and every combination of its options."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from random_loads import LOADS, Load, loads

from simserve import registry
from simserve.scheduler.batch import Batch
from simserve.testing.harness import drive


@LOADS
@given(loads())
def test_every_request_ends_and_every_block_comes_back(load: Load) -> None:
    """`drive` checks budget, seats, blocks and places after every call; here: the end."""
    scheduler, result, _ = load.drive(observe=True)
    assert sorted(result.finished + result.aborted) == [request.id for request in load.requests]
    assert scheduler.pool.num_free == load.config.num_gpu_blocks - 1
    assert sorted(scheduler.pool.free_block_ids()) == list(range(1, load.config.num_gpu_blocks))
    assert not scheduler.running
    assert len(scheduler.waiting) == 0


@LOADS
@given(loads())
def test_outputs_are_what_was_asked_for(load: Load) -> None:
    scheduler = registry.lookup("engine", "vllm")(load.config, observe=True)
    received = dict.fromkeys((request.id for request in load.requests), 0)
    batches: list[Batch] = []
    arrivals = load.arrivals_by_iteration()
    drive(scheduler, load.config, arrivals, observer=lambda _, batch: batch and batches.append(batch))
    for batch in batches:
        for request_id, tokens in batch.observed.tokens_out.items():
            received[request_id] += tokens
    for request in load.requests:
        room = load.config.max_model_len - request.prompt_tokens
        assert received[request.id] == min(request.output_tokens, room)


@LOADS
@given(loads())
def test_the_bound_on_shared_tokens_changes_no_decision(load: Load) -> None:
    """Blocks beyond the bound are only counted; hits, order and memory are as if each had been named."""
    _, tight, _ = load.drive()
    _, trivial, _ = load.drive(shared=False)
    assert tight.finished == trivial.finished
    assert tight.iterations == trivial.iterations
    assert [_shape(entry) for entry in tight.batches] == [_shape(entry) for entry in trivial.batches]


@LOADS
@given(loads())
def test_observing_changes_no_decision(load: Load) -> None:
    _, seen, _ = load.drive(observe=True)
    _, unseen, _ = load.drive()
    assert seen.finished == unseen.finished
    assert seen.iterations == unseen.iterations
    assert [_shape(entry) for entry in seen.batches] == [_shape(entry) for entry in unseen.batches]


def _shape(entry: tuple[int, Batch]) -> tuple[Any, ...]:
    iteration, batch = entry
    numbers = (batch.step, batch.prefill_tokens, batch.decodes, batch.context_tokens, batch.window_tokens)
    return (iteration, *numbers, batch.samples, batch.running, batch.waiting, batch.used_blocks)


@LOADS
@given(loads())
def test_admissions_keep_the_order_of_the_queue(load: Load) -> None:
    """FCFS: first admissions follow arrival; running requests are scheduled in order of admission."""
    _, _, notes = load.drive(observe=True)
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


@LOADS
@given(loads())
def test_hits_are_whole_blocks_short_of_the_prompt(load: Load) -> None:
    _, _, notes = load.drive(observe=True)
    by_id = {request.id: request for request in load.requests}
    for _, facts, _ in notes:
        computed = {request_id: before for request_id, _, before in facts["scheduled"]}
        for request_id in facts["new"]:
            hit = computed[request_id]
            assert hit % load.config.block_size == 0
            assert 0 <= hit < by_id[request_id].prompt_tokens
            assert hit <= by_id[request_id].shared_tokens
            if not load.config.enable_prefix_caching:
                assert hit == 0
