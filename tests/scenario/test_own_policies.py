"""An error in a policy of the user's is told in one line that names it, and where it is."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import pytest

from simserve import simulate
from simserve.cli.entry import run_app
from simserve.errors import PolicyError, ScenarioError
from simserve.scenario.loader import load_scenario

TEXT = """\
model: llama-3.1-8b
workload: {arrivals: 50, prompt_tokens: 64, output_tokens: 8, requests: 20}
pools: {hardware: h100-sxm, replicas: 2}
"""
MODULE = """\
from simserve.registry import lookup

Orca = lookup("engine", "orca")
RoundRobin = lookup("router", "round_robin")


class Late(Orca):
    decisions = 0

    def decide(self, *given, **named):
        self.decisions += 1
        if self.decisions > 3:
            divide(1, 0)
        return super().decide(*given, **named)


class Unmade(Orca):
    def __init__(self, *given, **named):
        raise KeyError("seats")


class Nowhere(RoundRobin):
    def choose(self, *given, **named):
        return self.instances[99]


def divide(a, b):
    return a / b
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_faults.py").write_text(MODULE)
    monkeypatch.delitem(sys.modules, "own_faults", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "own_faults.py"


@pytest.mark.parametrize(
    ("override", "begins", "ends", "functions"),
    [
        (
            "pools.0.engine.kind=own_faults:Late",
            "policy own_faults:Late failed at t=0.",
            ": ZeroDivisionError: division by zero (own_faults.py:28)",
            ["decide", "divide"],
        ),
        (
            "pools.0.engine.kind=own_faults:Unmade",
            "policy own_faults:Unmade failed at t=0 s: KeyError: 'seats' (own_faults.py:19)",
            "",
            ["__init__"],
        ),
        (
            "router.policy=own_faults:Nowhere",
            "policy own_faults:Nowhere failed at t=0.",
            "(own_faults.py:24)",
            ["choose"],
        ),
    ],
)
def test_the_policy_is_named(override: str, begins: str, ends: str, functions: list[str]) -> None:
    with pytest.raises(PolicyError) as caught:
        simulate(load_scenario(TEXT, [override]))
    message = str(caught.value)
    assert message.startswith(begins)
    assert message.endswith(ends)
    assert (" s in instance 0: " in message) == ("Late" in override)
    cause = caught.value.__cause__
    assert cause is not None
    assert [frame.name for frame in traceback.extract_tb(cause.__traceback__)] == functions


def test_the_command_line_prints_the_line_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.yaml").write_text(TEXT)
    status = run_app(["run", "bad.yaml", "--set", "pools.0.engine.kind=own_faults:Late"])
    said = capsys.readouterr().err.splitlines()
    assert status == 1
    assert said[0].startswith("simserve: error: policy own_faults:Late failed at t=")
    assert said[1] == "Traceback (most recent call last):"
    assert said[2].endswith("in decide")
    assert not any("simpy" in line for line in said)


def test_errors_of_simserve_itself_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from simserve.cluster.cluster import Cluster

    def fail(*given: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Cluster, "start", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        simulate(load_scenario(TEXT))


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("own_syntax", "def decide(:", "SyntaxError: invalid syntax (own_syntax.py, line 1)"),
        ("own_name", "limit = undefined", "NameError: name 'undefined' is not defined ("),
        ("own_import", "import not_there", "No module named 'not_there' ("),
    ],
)
def test_a_module_that_cannot_be_imported(tmp_path: Path, name: str, line: str, message: str) -> None:
    (tmp_path / f"{name}.py").write_text(f"{line}\n")
    with pytest.raises(ScenarioError) as caught:
        load_scenario(TEXT, [f"pools.0.engine.kind={name}:Policy"])
    assert f"cannot import engine '{name}:Policy': {message}" in str(caught.value)
    if message.endswith("("):
        assert f"{name}.py:1)" in str(caught.value)
