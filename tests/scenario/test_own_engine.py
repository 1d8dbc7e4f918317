"""An engine of the user's own: its options reach it, and only those it takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from simserve import load_scenario, simulate
from simserve.errors import InputError

ENGINE = """
from simserve.scheduler.vllm.stepwise import StepwiseScheduler


class Plain(StepwiseScheduler):
    def __init__(self, config, *, jump=True, least=0):
        super().__init__(config)
        self.least = least

    def schedule(self, now_ns=0):
        assert self.least == 3
        return super().schedule(now_ns)
"""
SCENARIO = (
    "model: llama-3.1-8b\n"
    "workload: {arrivals: 10, prompt_tokens: 100, output_tokens: 5, requests: 5}\n"
    "pools: {hardware: h100-sxm, engine: {kind: 'plain_engine:Plain'}}\n"
)


@pytest.fixture(autouse=True)
def _importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plain_engine.py").write_text(ENGINE)
    monkeypatch.syspath_prepend(tmp_path)


def test_its_options_reach_it() -> None:
    result = simulate(load_scenario(SCENARIO, ["pools.0.engine.options={least: 3}"]))
    assert result.summary["completed"] == 5


def test_others_are_refused() -> None:
    with pytest.raises(InputError, match="unknown option of Plain 'lest'; did you mean 'least'"):
        simulate(load_scenario(SCENARIO, ["pools.0.engine.options={lest: 3}"]))
