"""Builds timers from the shipped catalog for the tests of the cost room."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from simserve.cost.build import CostSpec, ExplainableTimer, build_timers
from simserve.scenario.catalog import load_calibration, load_hardware, load_model

BuildTimers = Callable[..., list[ExplainableTimer]]


@cache
def _stage_timers(
    model: str, hardware: str, tp: int = 1, pp: int = 1, quantization: str | None = None
) -> list[ExplainableTimer]:
    accelerator = load_hardware(hardware)
    return build_timers(
        CostSpec(),
        load_model(model),
        accelerator,
        tensor_parallel_size=tp,
        pipeline_parallel_size=pp,
        quantization=quantization,
        calibration=load_calibration(accelerator),
    )


@pytest.fixture(scope="session")
def stage_timers() -> BuildTimers:
    """`stage_timers(model, hardware, tp=1, pp=1, quantization=None)`: one timer a stage, built once."""
    return _stage_timers


@pytest.fixture(scope="session")
def fresh_timers() -> BuildTimers:
    """The same, but always new timers with empty tables."""
    return _stage_timers.__wrapped__
