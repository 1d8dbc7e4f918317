"""Constants set by the runs of other models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from simserve.study.left_out import first_token_excess_s, leave_models_out, set_constants, step_excess_s
from simserve.study.validate import ServerConstants, Validation, validate_run
from tests.study.conftest import MadeRow, WriteRun

CONSTANT: dict[str, Any] = {"kind": "constant", "base_s": 0.01}


ROWS: list[MadeRow] = [(float(i), 10, 4, "", 0.02, 0.05) for i in range(5)]


def late_by(run: Validation, seconds: float) -> Validation:
    """The same run with every measured first token that much later."""
    latencies = replace(run.measured.latencies, ttft_s=run.served.latencies.ttft_s + seconds)
    return replace(run, measured=replace(run.measured, latencies=latencies))


@pytest.fixture
def served(write_run: WriteRun) -> Validation:
    """Five requests, served alone one after the other."""
    return validate_run(write_run(ROWS), CONSTANT)


def test_models_count_alike_however_many_runs_they_have(served: Validation) -> None:
    used = ServerConstants(1e-4, 0.005)
    runs = [("a", late_by(served, 0.001)), ("a", late_by(served, 0.001)), ("b", late_by(served, 0.003))]
    assert set_constants(runs, used) == pytest.approx(ServerConstants(1e-4, 0.007))
    assert set_constants([("a", late_by(served, -1.0))], used).front_end_s == 0.0


def test_what_tells_nothing_leaves_a_constant_alone(served: Validation) -> None:
    assert step_excess_s(served) is None  # five requests do not determine a step
    assert first_token_excess_s(replace(served, front_end_s=0.0)) is None
    used = ServerConstants(1e-4, 0.005)
    assert set_constants([("a", replace(served, front_end_s=0.0))], used) == used


@pytest.mark.slow
def test_real_runs_hold_without_their_model(data_dir: Any) -> None:
    names = ("h100-llama-2-7b-tp1-roleplay", "h100-qwen3-14b-agg_2rps")
    found = leave_models_out([data_dir / "e2e" / name for name in names])
    assert found[0].constants != found[1].constants
    for each in found:
        assert abs(each.validation.figures()["tpot_mean_s"].error_percent or 0.0) < 6.0
