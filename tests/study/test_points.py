"""A point is what it depends on: scenario, files, policies with all that they import, never a path."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simserve.data_files import data_folder
from simserve.scenario.loader import load_scenario
from simserve.study.points import identify
from simserve.study.policy_source import hash_sources
from tests.study.sweeps import BASE, ROUTER


def test_a_point_is_what_it_depends_on_and_not_where_it_lies(tmp_path: Path) -> None:
    def made(name: str, rows: str) -> str:
        home = tmp_path / name
        home.mkdir()
        (home / "t.csv").write_text(rows)
        text = BASE.replace(BASE.splitlines()[2], "workload: {trace: {path: t.csv}}")
        (home / "base.yaml").write_text(text)
        return identify(load_scenario(str(home / "base.yaml")))

    head = "arrival_s,prompt_tokens,output_tokens\n"
    one = made("one", head + "0,10,5\n")
    assert made("two", head + "0,10,5\n") == one
    assert made("three", head + "0,10,6\n") != one


def test_a_policys_source_is_part_of_a_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    base, mine = tmp_path / "base_of_sweeps.py", tmp_path / "router_of_sweeps.py"
    base.write_text(ROUTER.format(name="Base"))
    mine.write_text("from base_of_sweeps import Base\n\n\nclass Mine(Base):\n    pass\n")
    scenario = load_scenario(BASE + "router: {policy: 'router_of_sweeps:Mine'}\n")
    found = [identify(scenario)]
    for file in (mine, base):
        file.write_text(file.read_text() + "# other\n")
        found.append(identify(scenario))
    assert len(set(found)) == 3
    assert identify(scenario) == found[-1]


def test_what_a_policy_imports_is_part_of_a_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions, constants, packages, whatever they import in turn, and imports inside functions."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "rules_of_sweeps").mkdir()
    sources = {
        "policy_of_sweeps.py": "import json\nimport numpy\nfrom limits_of_sweeps import LIMIT\n"
        "from rules_of_sweeps import rule\n\nclass Mine:\n    limit = LIMIT, rule, json, numpy\n",
        "limits_of_sweeps.py": "LIMIT = 3\n",
        "rules_of_sweeps/__init__.py": "from .rule import rule\n",
        "rules_of_sweeps/rule.py": "def rule():\n    import late_of_sweeps as late\n    return late\n",
        "late_of_sweeps.py": "import policy_of_sweeps\n",
        "other_of_sweeps.py": "",
    }
    for name, text in sources.items():
        (tmp_path / name).write_text(text)
    found = []
    for name in (None, *sources):
        if name is not None:
            (tmp_path / name).write_text(sources[name] + "# other\n")
        found.append(hash_sources(["policy_of_sweeps:Mine"])["policy_of_sweeps:Mine"])
    assert len(set(found)) == len(sources)
    # What nothing imports changes nothing.
    assert found[-1] == found[-2]


def test_policies_of_every_kind_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not routers alone: whatever names a class."""
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "length_of_sweeps.py"
    file.write_text("class Mine:\n    pass\n")
    assert list(hash_sources(["vllm", "a:b", "length_of_sweeps:Mine", "12:30"])) == ["length_of_sweeps:Mine"]
    before = hash_sources(["length_of_sweeps:Mine"])
    file.write_text("class Mine:\n    more = 1\n")
    assert hash_sources(["length_of_sweeps:Mine"]) != before


def test_a_models_config_is_part_of_a_point_and_its_path_is_not(tmp_path: Path) -> None:
    config = json.loads((data_folder("models") / "llama-3.1-8b.json").read_text())

    def made(home: str, layers: int) -> str:
        folder = tmp_path / home / "model"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers}))
        (tmp_path / home / "base.yaml").write_text(BASE.replace("llama-3.1-8b", "model"))
        return identify(load_scenario(str(tmp_path / home / "base.yaml")))

    assert made("one", 32) == made("two", 32) != made("one", 16)
