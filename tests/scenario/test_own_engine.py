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


POLICIES = """
from simserve.scheduler.base import BaseScheduler


class Capped(BaseScheduler):
    def decide(self):
        self.decode()
        while self.waiting and len(self.running) < 2 and self.admit(self.waiting.head()):
            pass


class Greedy(BaseScheduler):
    def decide(self):
        self.decode()
        while self.waiting and self.has_seat() and self.admit(self.waiting.head()):
            pass


class Idle(BaseScheduler):
    def decide(self):
        pass
"""


@pytest.fixture(autouse=True)
def _importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plain_engine.py").write_text(ENGINE)
    (tmp_path / "own_policies.py").write_text(POLICIES)
    monkeypatch.syspath_prepend(tmp_path)


def test_its_options_reach_it() -> None:
    result = simulate(load_scenario(SCENARIO, ["pools.0.engine.options={least: 3}"]))
    assert result.summary["completed"] == 5


def test_others_are_refused() -> None:
    with pytest.raises(InputError, match="unknown option of Plain 'lest'; did you mean 'least'"):
        simulate(load_scenario(SCENARIO, ["pools.0.engine.options={lest: 3}"]))


@pytest.mark.parametrize(
    ("policy", "engine", "bottleneck"),
    [
        ("Capped", "", "queueing: the policy held requests back"),
        ("Greedy", ", num_gpu_blocks_override: 16, max_model_len: 200", "KV memory:"),
    ],
)
def test_the_policy_is_told_apart_from_short_memory(policy: str, engine: str, bottleneck: str) -> None:
    text = SCENARIO.replace("arrivals: 10,", "arrivals: 1000,").replace(
        "'plain_engine:Plain'", f"'own_policies:{policy}'{engine}"
    )
    assert simulate(load_scenario(text)).summary["bottleneck"].startswith(bottleneck)


def test_a_policy_that_schedules_nothing_is_named_as_the_reason() -> None:
    summary = simulate(load_scenario(SCENARIO.replace("plain_engine:Plain", "own_policies:Idle"))).summary
    assert summary["failed"] == 5
    reason = "cannot be scheduled: the policy scheduled nothing although it could"
    assert summary["failures"] == {reason: 5}


def test_the_nearest_class_of_a_module_is_named() -> None:
    text = SCENARIO.replace("plain_engine:Plain", "own_policies:Greddy")
    with pytest.raises(InputError, match="module own_policies has no 'Greddy'; did you mean 'Greedy'"):
        load_scenario(text)
