"""The page *Memory*: what fills a GPU, blocks over time, fragmentation, tiers, shared prefixes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import simserve

pytest.importorskip("streamlit")
Open, Words = Callable[..., Any], Callable[[Any], str]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four instances whose requests share prefixes, and one in contiguous memory."""
    folder = tmp_path_factory.mktemp("memory")
    few = ["workload.requests=60", "pools.0.replicas=4"]
    simserve.simulate(simserve.load_scenario("shared-prefix", few)).write(folder / "shared")
    few = ["workload.requests=40", "workload.prompt_tokens=200", "workload.output_tokens=20"]
    simserve.simulate(simserve.load_scenario("reserved-memory", few)).write(folder / "reserved")
    few = ["workload.requests=30"]
    simserve.simulate(simserve.load_scenario("kv-tiers", few)).write(folder / "tiers")
    return folder


@pytest.fixture
def memory_runs(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SIMSERVE_DASHBOARD_DIRS", str(shared))
    return shared


def test_shared_prefixes_and_blocks(memory_runs: Path, open_page: Open, words_of: Words) -> None:
    app = open_page("memory", run="shared")
    assert not app.exception
    assert len(app.get("plotly_chart")) == 3
    summary = json.loads((memory_runs / "shared" / "summary.json").read_text())
    figures = {metric.label: metric.value for metric in app.metric}
    assert figures["Prefix hits"] == f"{summary['prefix_cache_hit_rate']:.1%}"
    assert "100.0% of all tokens" in words_of(app)
    assert app.selectbox(key="instance").options == ["all together", "0", "1", "2", "3"]
    app.selectbox(key="instance").set_value("2").run()
    assert not app.exception
    assert len(app.get("plotly_chart")) == 3


def test_contiguous_memory_says_what_it_lost(memory_runs: Path, open_page: Open, words_of: Words) -> None:
    app = open_page("memory", run="reserved")
    assert not app.exception
    assert "was reserved and never used" in words_of(app)
    assert "No request found any of its prompt" in words_of(app)


def test_tiers_are_told(memory_runs: Path, open_page: Open, words_of: Words) -> None:
    app = open_page("memory", run="tiers")
    assert not app.exception
    assert "Tiers behind the GPU" in words_of(app)
    tiers = json.loads((memory_runs / "tiers" / "summary.json").read_text())["kv_tiers"]
    assert all(name in words_of(app) for name in tiers)


def test_an_older_run_without_sizes(empty: Path, made_runs: Path, open_page: Open, words_of: Words) -> None:
    shutil.copytree(made_runs / "two", empty / "old")
    path = empty / "old" / "summary.json"
    summary = json.loads(path.read_text())
    for pool in summary["pools"]:
        del pool["memory"], pool["kv_block_tokens"]
    path.write_text(json.dumps(summary))
    app = open_page("memory")
    assert not app.exception
    assert "Run its scenario again" in words_of(app)


def test_a_run_without_steps(empty: Path, open_page: Open, words_of: Words) -> None:
    refused = ["workload.trace.limit=5", "pools.0.engine.max_model_len=16"]
    simserve.simulate(simserve.load_scenario("quickstart", refused)).write(empty / "refused")
    for name in ("memory", "cluster"):
        app = open_page(name)
        assert not app.exception
        assert "No step ran" in words_of(app)


@pytest.mark.parametrize("name", ["memory", "cluster"])
def test_an_empty_folder_says_how_to_begin(empty: Path, name: str, open_page: Open, words_of: Words) -> None:
    assert "page *Run*" in words_of(open_page(name))
