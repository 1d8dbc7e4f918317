"""SGLang's decode batches: retraction, overlap, the new-token ratio, and stretches."""

from __future__ import annotations

from typing import Any

from simserve.scheduler.sequence import FINISHED
from simserve.scheduler.sglang import SglangScheduler
from simserve.scheduler.sglang.config import SglangConfig
from simserve.scheduler.sglang.ratio import NewTokenRatio
from tests.scheduler.sglang_loads import add, build, step


def test_retraction_takes_the_shortest_output_and_sets_the_ratio() -> None:
    scheduler = build(pool_tokens=40, schedule_conservativeness=0.01)
    add(scheduler, 0, 6, 25)
    step(scheduler)
    step(scheduler)
    add(scheduler, 1, 6, 16)
    seen = None
    while not seen or not seen.retracted:
        seen = step(scheduler)
    assert seen.retracted == [1]
    assert (seen.running, seen.waiting) == ([0], [1])
    row = scheduler.sequences[0]
    generated = scheduler.decoders.generated(row)
    # The pass itself has given it another token since.
    assert scheduler.ratio.current == min(1.0, (generated - 1 + 20) / (25 + 1))
    retracted = scheduler.sequences[1]
    assert retracted.preemptions == 1
    assert retracted.outputs > 0
    assert (retracted.committed, retracted.protected) == (0, 0)


def test_a_single_decoder_that_finds_no_memory_is_aborted() -> None:
    scheduler = build(pool_tokens=40, chunked_prefill_size=16, schedule_conservativeness=0.01)
    add(scheduler, 0, 4, 30)
    step(scheduler)
    row = scheduler.sequences[0]
    scheduler.pool.free = 0  # as if a chunk held the rest
    scheduler.schedule()
    ((failed, reason),) = scheduler.failed
    assert failed is row
    assert "out of memory" in reason
    assert row.status == FINISHED
    assert not scheduler.sequences
    assert scheduler.ratio.current == scheduler.ratio.init  # nothing is left: it starts again


def test_overlap_foresees_an_end_by_length_but_not_by_eos() -> None:
    for output, decodes in ((4, 3), (3, 3)):  # of at most 4
        scheduler = build(disable_overlap_schedule=False)
        add(scheduler, 0, 5, 4, output=output)
        batches = 0
        flying: list[Any] = [scheduler.schedule()]
        while any(flying):
            flying.append(scheduler.schedule())
            batches += flying[-1] is not None
            if flying.pop(0) is not None:
                scheduler.complete()
            scheduler.check_integrity()
        assert batches == decodes
        # By EOS the token after it was decoded in vain, so the EOS has KV and stays in the tree.
        assert scheduler.pool.tree.total_tokens == 5 + 3


def test_the_ratio_falls_and_starts_again_when_idle() -> None:
    scheduler = build()
    add(scheduler, 0, 5, 10)
    for _ in range(4):
        step(scheduler)
    assert scheduler.ratio.current < 0.7
    while scheduler.sequences:
        step(scheduler)
    step(scheduler)
    assert scheduler.ratio.current == 0.7


def test_the_ratio_falls_as_often_as_it_is_told() -> None:
    one, many = NewTokenRatio(0.3), NewTokenRatio(0.3)
    for _ in range(700):
        one.decay()
    many.decay(700)
    assert one.current == many.current == many.minimum


def test_a_stretch_reaches_to_the_next_end() -> None:
    scheduler = SglangScheduler(SglangConfig(pool_tokens=100, context_len=100, disable_overlap_schedule=True))
    add(scheduler, 0, 5, 10)
    add(scheduler, 1, 5, 20)
    for _ in range(2):
        scheduler.schedule()
        assert scheduler.horizon() == (0 if scheduler.steps == 1 else 8)
        scheduler.complete()
    assert scheduler.horizon(1) == 7
    forecast = scheduler.forecast(8)
    assert forecast.cohorts == [(2, 5 + 5 + 2 * 2)]
    assert scheduler.advance(7, 1) == ((14, 0), (28, 0))
    assert [row.id for row in scheduler.complete()] == [0]


def test_no_stretch_while_somebody_may_join() -> None:
    scheduler = SglangScheduler(
        SglangConfig(pool_tokens=100, context_len=100, max_running_requests=1, disable_overlap_schedule=True)
    )
    add(scheduler, 0, 5, 10)
    scheduler.schedule()
    scheduler.complete()
    scheduler.schedule()
    add(scheduler, 1, 5, 10)
    assert scheduler.horizon() == 0
    scheduler.complete()
    scheduler.schedule()
    assert scheduler.batch.full
    assert scheduler.horizon() > 0
