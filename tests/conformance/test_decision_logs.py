"""The golden decision log of every policy, and what records and replays them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from simserve.conformance.decision_config import decode_config, encode_config
from simserve.conformance.decision_log import DecisionLog, read_decision_log
from simserve.conformance.decision_replay import replay_decisions
from simserve.errors import InputError
from simserve.registry import lookup, names
from simserve.scenario.loader import load_scenario
from simserve.scheduler.config import SchedulerConfig, Speculation
from simserve.scheduler.orders.order import OrderPlan, OrderSettings, Targets
from simserve.scheduler.orders.predictors import NoisyPredictor
from simserve.scheduler.sarathi import SarathiScheduler
from simserve.scheduler.sequence import Sequence
from simserve.testing.recording import record_decisions

GOLDEN = Path(__file__).parents[1] / "golden"
LOGS = sorted(GOLDEN.glob("*.json"))


@pytest.fixture
def sarathi() -> DecisionLog:
    return read_decision_log(GOLDEN / "sarathi.json")


def test_every_kind_has_a_golden_log() -> None:
    built_in = {kind for kind in names("engine") if lookup("engine", kind).__module__.startswith("simserve.")}
    assert {read_decision_log(path).kind for path in LOGS} == built_in


def test_together_they_show_what_happens_to_requests() -> None:
    calls = [call for path in LOGS for call in read_decision_log(path).calls]
    assert sum(len(call.get("preempted", ())) for call in calls) > 50
    assert sum(len(call.get("ended", ())) for call in calls) > 50
    assert any(call["call"] == "abort" and call["found"] for call in calls)
    assert any(call["call"] == "schedule" and call["ran"] is None for call in calls)


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_decisions_are_those_of_the_golden_log(path: Path) -> None:
    outcome = replay_decisions(read_decision_log(path), path.name)
    assert outcome.difference == ""
    assert outcome.agreed == outcome.steps == 120


def test_a_recording_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    engine = "pools.0.engine."
    settings = ["kind=dynamic", "options={preferred_batch_size: [1, 3]}", "order=sjf"]
    scenario = load_scenario(str(GOLDEN / "load.yaml"), [engine + setting for setting in settings])
    log = record_decisions(scenario, steps=20)
    log.write(tmp_path / "log.json")
    back = read_decision_log(tmp_path / "log.json")
    assert (back.name, back.kind, back.steps) == ("golden", "dynamic", 20)
    assert back.options == {"preferred_batch_size": (1, 3)}
    assert back.calls == log.calls
    assert list(back.requests) == list(log.requests)
    assert replay_decisions(back).difference == ""


@pytest.mark.parametrize("key", ["ran", "preempted", "running", "waiting", "free", "ended"])
def test_a_changed_answer_is_found(sarathi: DecisionLog, key: str) -> None:
    number = max(number for number, call in enumerate(sarathi.calls) if call.get(key))
    changed = sarathi.calls[number][key]
    sarathi.calls[number][key] = changed[:-1] if isinstance(changed, list) else changed + 1
    outcome = replay_decisions(sarathi)
    assert outcome.difference.startswith(f"call {number} (")
    assert f"{key}: expected" in outcome.difference
    assert outcome.agreed < outcome.steps


class LastComeFirstPreempted(SarathiScheduler):
    """Takes the memory of whoever has come first."""

    def choose_victim(self, sequence: Sequence) -> Sequence:
        return self.ready()[0]


class Failing(SarathiScheduler):
    """Fails when somebody ends."""

    def _finish(self, sequence: Sequence, step: int) -> None:
        raise ValueError("no end")


@pytest.mark.parametrize(
    ("policy", "difference"), [(LastComeFirstPreempted, "expected"), (Failing, "ValueError: no end")]
)
def test_another_class_is_driven_through_the_log(sarathi: DecisionLog, policy: type, difference: str) -> None:
    outcome = replay_decisions(sarathi, kind=f"{__name__}:{policy.__name__}")
    assert difference in outcome.difference
    assert 0 < outcome.agreed < outcome.steps


def test_options_survive_the_log() -> None:
    settings = OrderSettings(
        5, NoisyPredictor(5, sigma=0.25), Targets(ttft_ns=10), {"fast": Targets(1, 2, 3)}
    )
    config = SchedulerConfig(
        num_gpu_blocks=9,
        policy="priority",
        order=OrderPlan("sjf", settings, {}),
        prefill_profile=((1, 0.5), (2, 0.75)),
    )
    back = decode_config(json.loads(json.dumps(encode_config(config))))
    assert back.order is not None
    predictor = back.order.settings.predictor
    assert (type(predictor), predictor.seed, predictor.options) == (NoisyPredictor, 5, {"sigma": 0.25})
    assert back.order.settings.class_targets == settings.class_targets
    assert back.order.settings.targets == settings.targets
    assert back.prefill_profile == config.prefill_profile
    assert (back.num_gpu_blocks, back.policy, back.block_size) == (9, "priority", 16)


def test_what_a_log_cannot_hold_is_refused() -> None:
    config = SchedulerConfig(num_gpu_blocks=9, speculative=Speculation("ngram", 2, lambda *_: 0))
    with pytest.raises(InputError, match="speculative decoding"):
        encode_config(config)
    with pytest.raises(InputError, match="no engine 7"):
        record_decisions(load_scenario(str(GOLDEN / "load.yaml")), steps=1, engine=7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "another"}, "no decision log"),
        ({"calls": [{"call": "ask"}]}, r"calls\[0\].call: expected one of add"),
        ({"calls": [{"call": "add", "id": 99, "order": 1, "at_ns": 0}]}, "request 99 is not in requests"),
        ({"calls": [{"call": "schedule", "ran": None}]}, r"calls\[0\].at_ns: missing"),
        ({"requests": [{"id": 0}]}, r"requests\[0\].prompt: missing"),
        ({"config": {"num_gpu_blocks": 9, "blocks": 3}}, "config: .*blocks"),
    ],
)
def test_a_bad_log_is_told_with_the_place(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    document = json.loads((GOLDEN / "sarathi.json").read_text()) | change
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=message):
        replay_decisions(read_decision_log(path))


def test_the_command_line_records_and_replays(
    run_cli: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    def run(*arguments: str) -> CompletedProcess[str]:
        return run_cli("conformance", *arguments)

    log = str(tmp_path / "log.json")
    setting = "pools.0.engine.kind=orca"
    done = run("record", str(GOLDEN / "load.yaml"), "--out", log, "--steps", "15", "--set", setting)
    assert done.returncode == 0, done.stderr
    assert "15 steps" in done.stdout
    assert run("replay", log).returncode == 0
    done = run("replay", log, "--kind", "vllm-v0", "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert (report["logs"], report["passed"]) == (1, 0)
    assert report["failures"][0]["difference"]
    assert run("replay", str(GOLDEN / "load.yaml")).returncode == 2


def test_recording_changes_no_decision() -> None:
    """The log's steps are those of the same simulation without a recorder."""
    from simserve.testing.jumps import run_traced

    scenario = load_scenario(str(GOLDEN / "load.yaml"), ["pools.0.engine.kind=sarathi"])
    log = record_decisions(scenario, steps=60)
    _, traces = run_traced(scenario, jump=False)
    recorded = [
        (sum(tokens for _, tokens in call["ran"]), call["waiting"])
        for call in log.calls
        if call["call"] == "schedule" and call["ran"] is not None
    ]
    assert recorded == [(step[2] + step[3], step[6]) for step in traces[0][:60]]
    assert lookup("engine", log.kind) is SarathiScheduler
