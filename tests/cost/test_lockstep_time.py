"""The time of a step of several ranks: shared experts, padding to the largest batch, stretches."""

from __future__ import annotations

import pytest

from simserve.cost.build import CostSpec, build_timers
from simserve.cost.graphs import capture_sizes
from simserve.cost.host import HostTime
from simserve.cost.lockstep import DUMMY, BatchShape, RooflineLockstep, SlowestRank, lockstep_timer
from simserve.cost.roofline import RooflineTimer
from simserve.cost.simple import ConstantTimer
from simserve.cost.timer import Chunk
from simserve.scenario.catalog import load_hardware, load_model

GRAPHS = HostTime(step_s=5e-4, graph_sizes=capture_sizes(256))


def timer(ranks: int, host: HostTime = GRAPHS, *, expert_parallel: bool = True) -> RooflineTimer:
    """Qwen3-30B-A3B on H100, one GPU a rank."""
    made = build_timers(
        CostSpec(),
        load_model("qwen3-30b-a3b"),
        load_hardware("h100-sxm"),
        data_parallel_size=ranks,
        enable_expert_parallel=expert_parallel,
        host=host,
    )[0]
    assert isinstance(made, RooflineTimer)
    return made


def decodes(count: int, context: int = 1000) -> BatchShape:
    return BatchShape(count, count * context, 0, (), count)


def prefill(tokens: int) -> BatchShape:
    return BatchShape(0, 0, 0, (Chunk(tokens, 0),), 1)


@pytest.fixture(scope="module")
def pair() -> RooflineLockstep:
    return RooflineLockstep(timer(2))


@pytest.mark.parametrize("batch", [decodes(1), decodes(48), decodes(700), prefill(300), prefill(4000)])
def test_equal_batches_take_what_one_rank_among_equals_takes(
    pair: RooflineLockstep, batch: BatchShape
) -> None:
    alone = timer(2).batch_ns(
        batch.decodes, batch.context_tokens, batch.window_tokens, list(batch.chunks), batch.samples
    )
    # Each part is rounded by itself.
    assert pair.step_ns([batch, batch]) == pytest.approx(alone, abs=5)


def test_a_step_is_that_of_the_slowest_rank(pair: RooflineLockstep) -> None:
    long, short = decodes(64, 8000), decodes(64, 100)
    assert pair.step_ns([long, short]) == pair.step_ns([short, long]) == pair.step_ns([long, long])
    assert pair.step_ns([short, short]) < pair.step_ns([long, short])


def test_with_graphs_every_rank_is_padded_to_the_largest(pair: RooflineLockstep) -> None:
    assert pair.step_ns([decodes(200), DUMMY]) == pair.step_ns([decodes(200), decodes(193, 1)])


def test_without_graphs_a_dummy_adds_little(pair: RooflineLockstep) -> None:
    eager = RooflineLockstep(timer(2, HostTime(step_s=5e-4)))
    alone, both = eager.step_ns([prefill(4000), DUMMY]), eager.step_ns([prefill(4000), prefill(4000)])
    # The experts and their exchange see half the tokens.
    assert alone < 0.9 * both
    # One batch beyond the largest graph, and nobody is padded.
    assert pair.step_ns([prefill(4000), DUMMY]) < 0.9 * pair.step_ns([prefill(4000), prefill(4000)])


@pytest.mark.parametrize("batches", [(40, 13), (1, None), (600, 20), (None, None)])
def test_many_steps_are_as_long_as_each_by_itself(
    pair: RooflineLockstep, batches: tuple[int | None, int | None]
) -> None:
    shapes = [DUMMY if count is None else decodes(count) for count in batches]
    one_by_one = []
    for step in range(50):
        later = [
            shape
            if shape is DUMMY
            else shape._replace(context_tokens=shape.context_tokens + step * shape.decodes)
            for shape in shapes
        ]
        one_by_one.append(pair.step_ns(later))
    assert pair.decode_ns(shapes, 50) == one_by_one


def test_two_ranks_lie_between_half_a_rank_and_all_work_on_one() -> None:
    """Sharing experts over two GPUs halves their weights and adds an exchange."""
    one, two = timer(1), RooflineLockstep(timer(2))
    for count in (1, 16, 64, 200):
        batch, double = decodes(count), decodes(2 * count)
        shared = two.step_ns([batch, batch])
        assert shared > 0.5 * one.decode_ns(count, batch.context_tokens, 0, 1)[0]
        exchange_s = sum(
            row.seconds
            for row in timer(2).explain(*batch)
            if row.operator in ("dispatch_experts", "combine_experts")
        )
        assert exchange_s > 0
        assert shared < one.decode_ns(2 * count, double.context_tokens, 0, 1)[0] + 1e9 * exchange_s


def test_slices_of_experts_take_about_as_long_as_whole_ones(pair: RooflineLockstep) -> None:
    sliced = RooflineLockstep(timer(2, expert_parallel=False))
    for batch in (decodes(64), prefill(2000)):
        ratio = sliced.step_ns([batch, batch]) / pair.step_ns([batch, batch])
        assert 0.5 < ratio < 2.0


def test_a_stated_step_time_is_that_of_all_ranks() -> None:
    made = lockstep_timer(ConstantTimer(0.01))
    assert isinstance(made, SlowestRank)
    assert made.step_ns([decodes(3), DUMMY]) == 10_000_000
    assert made.decode_ns([decodes(3), DUMMY], 2) == [10_000_000] * 2
