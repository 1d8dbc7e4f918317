"""One thing has one name: what a scenario calls by an alias is shown and identified by the catalog's name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simserve.data_files import data_folder
from simserve.scenario.dump import dump_scenario
from simserve.scenario.loader import load_scenario
from simserve.study.candidates import Candidate, build_candidates
from simserve.study.points import expand_points, identify
from simserve.study.sweep_file import SweepFile

TEXT = """\
model: %s
workload: {arrivals: 10, prompt_tokens: 512, output_tokens: 64, requests: 100}
pools:
  hardware: %s
  engine: {speculative: {method: draft_model, model: %s, num_speculative_tokens: 2, acceptance: 0.5}}
"""
PLAIN = TEXT % ("llama-3.1-8b", "a100-sxm-80gb", "llama-3.2-1b")
ALIASES = TEXT % ("meta-llama/Llama-3.1-8B", "NVIDIA A100-SXM4-80GB", "meta-llama/Llama-3.2-1B")


def test_aliases_become_the_catalogs_names() -> None:
    plain, aliases = load_scenario(PLAIN), load_scenario(ALIASES)
    assert dump_scenario(aliases) == dump_scenario(plain)
    assert identify(aliases) == identify(plain)
    assert aliases.pools[0].hardware == "a100-sxm-80gb"
    assert load_scenario(PLAIN, ["pools.0.model=QWEN3-8B"]).pools[0].model == "qwen3-8b"


def test_a_variant_keeps_its_name() -> None:
    """Its config is another than that of the file it stands in."""
    scenario = load_scenario(PLAIN, ["model=Qwen/Qwen2.5-7B-Instruct"])
    assert scenario.model == "qwen/qwen2.5-7b-instruct"
    assert identify(scenario) != identify(load_scenario(PLAIN, ["model=qwen2.5-7b"]))


def test_files_keep_their_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Mine").mkdir()
    config = (data_folder("models") / "qwen3-8b.json").read_text()
    (tmp_path / "Mine" / "config.json").write_text(config)
    (tmp_path / "Own.yaml").write_text((data_folder("hardware") / "l4.yaml").read_text())
    scenario = load_scenario(PLAIN, ["model=Mine", "pools.0.hardware=Own.yaml"])
    assert (scenario.model, scenario.pools[0].hardware) == ("Mine", "Own.yaml")
    scenario = load_scenario(PLAIN, ["model=Mine/config.json"])
    assert scenario.model == "Mine/config.json"


def test_points_of_a_sweep_have_the_catalogs_names(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(PLAIN)
    axes = [{"key": "pools.0.hardware", "values": ["A100", "a100-sxm-80gb", "l4"]}]
    sweep = SweepFile.model_validate_json(json.dumps({"base": "base.yaml", "axes": axes}))
    points = list(expand_points(sweep, tmp_path))
    assert [point.settings["pools.0.hardware"] for point in points] == ["a100-sxm-80gb"] * 2 + ["l4"]
    assert points[0].identity == points[1].identity != points[2].identity


def test_candidates_have_the_catalogs_names(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(PLAIN)
    axes = {"hardware": ["H100"], "engine.max_num_seqs": [64]}
    (found,) = build_candidates(str(tmp_path / "base.yaml"), [], axes, {})
    assert isinstance(found, Candidate)
    assert found.settings == {"pools.0.hardware": "h100-sxm", "pools.0.engine.max_num_seqs": 64}
