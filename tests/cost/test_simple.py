"""Constant and linear step times, and the factory's refusals."""

from __future__ import annotations

import pytest

from simserve.cost.build import CostSpec, build_timers
from simserve.cost.simple import ConstantTimer, LinearTimer
from simserve.cost.timer import Chunk
from simserve.errors import InputError, UnknownNameError
from simserve.scenario.catalog import load_hardware, load_model


def test_a_constant_step_is_constant() -> None:
    timer = ConstantTimer(0.02)
    assert timer.decode_ns(9, 9000, 0, 3) == [20_000_000] * 3
    assert timer.batch_ns(9, 9000, 0, [Chunk(500, 100)], 10) == 20_000_000
    assert timer.send_ns(500) == 0


def test_a_linear_step_is_linear() -> None:
    timer = LinearTimer(1e-3, per_prefill_token_s=1e-6, per_decode_s=2e-6, per_context_token_s=1e-9)
    assert timer.decode_ns(10, 5000, 0, 2) == [1_000_000 + 20_000 + 5000, 1_000_000 + 20_000 + 5010]
    assert timer.batch_ns(10, 5000, 0, [Chunk(7, 100), Chunk(3, 0)], 12) == 1_000_000 + 20_000 + 5100 + 10_000
    assert timer.batch_ns(10, 5000, 0, [], 10) == timer.decode_ns(10, 5000, 0, 1)[0]


def test_many_linear_steps_equal_one_by_one() -> None:
    timer = LinearTimer(0.0123456789, 1.1e-7, 3.3e-6, 7.7e-10)
    together = timer.decode_ns(13, 12345, 0, 100)
    assert together == [timer.decode_ns(13, 12345 + 13 * j, 0, 1)[0] for j in range(100)]


def test_given_times_say_that_they_are_given() -> None:
    timer = LinearTimer(1e-3)
    assert timer.calibration.tier == "given"
    assert timer.calibration.error_percent is None
    assert sum(timer.bound_seconds(1, 10, 0, [], 1).values()) == pytest.approx(1e-3)
    assert [row.seconds for row in timer.explain(1, 10, 0, [], 1)] == [1e-3]


def test_the_factory_builds_one_timer_a_stage() -> None:
    shape, h100 = load_model("llama-3.1-8b"), load_hardware("h100-sxm")
    timers = build_timers(CostSpec("constant", base_s=0.01), shape, h100, pipeline_parallel_size=3)
    assert [timer.decode_ns(1, 1, 0, 1) for timer in timers] == [[10_000_000]] * 3
    assert len(build_timers(CostSpec(), shape, h100, pipeline_parallel_size=4)) == 4


@pytest.mark.parametrize(
    "spec",
    [
        CostSpec("constant"),
        CostSpec("linear", base_s=-1.0),
        CostSpec("linear", base_s=float("nan")),
        CostSpec("constant", base_s=1.0, per_decode_s=1.0),
    ],
)
def test_the_factory_refuses_times_that_cannot_be(spec: CostSpec) -> None:
    with pytest.raises(InputError, match="cost: "):
        build_timers(spec, load_model("llama-3.1-8b"), load_hardware("h100-sxm"))


def test_the_factory_names_the_nearest_kind_and_refuses_odd_splits() -> None:
    shape, h100 = load_model("llama-3.1-8b"), load_hardware("h100-sxm")
    with pytest.raises(UnknownNameError, match="did you mean 'linear'"):
        build_timers(CostSpec("liner"), shape, h100)
    with pytest.raises(InputError, match="does not divide the 32 attention heads"):
        build_timers(CostSpec(), shape, h100, tensor_parallel_size=3)
    with pytest.raises(InputError, match="pipeline_parallel_size 40"):
        build_timers(CostSpec(), shape, h100, pipeline_parallel_size=40)
