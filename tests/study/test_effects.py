"""What an effect is worth: a run as it is, and with one thing switched off."""

from __future__ import annotations

import pytest

from simserve.study.effects import EFFECTS, measure_effects
from tests.study.conftest import MadeRow, WriteRun

ROWS: list[MadeRow] = [(0.01 * i, 400, 20, "7", 0.05, 0.5) for i in range(40)]


def test_what_a_run_does_not_have_is_not_told(write_run: WriteRun) -> None:
    found = measure_effects([write_run(ROWS, async_scheduling="true")])[0]
    assert set(found.without) == {effect.name for effect in EFFECTS}
    missing = {name for name, errors in found.without.items() if errors is None}
    assert missing == {"no limit in the client", "latencies from the sending, not the queue"}


def test_an_effect_changes_what_it_should(write_run: WriteRun) -> None:
    found = measure_effects([write_run(ROWS, async_scheduling="true")])[0]
    ttft, tpot = found.whole

    def without(name: str) -> tuple[float, float]:
        errors = found.without[name]
        assert errors is not None
        return errors

    # 6.5 ms of 50, and no part of a step.
    assert without("no time of client and server")[0] == pytest.approx(ttft - 13.0, abs=0.1)
    assert without("no time of client and server")[1] == pytest.approx(tpot, abs=1e-6)
    assert without("prefix cache off")[0] > ttft
    assert without("CUDA graphs off")[1] > tpot
    assert without("the host of 2025's engines")[1] > tpot


def test_a_queued_run_has_no_front_end(write_run: WriteRun) -> None:
    found = measure_effects([write_run(ROWS, latency_from="queued")])[0]
    assert found.without["no time of client and server"] is None
    assert found.without["latencies from the sending, not the queue"] is not None
