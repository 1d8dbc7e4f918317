"""The page *Sweep*: curves, a heat map and the points of a sweep, failed ones with their reasons."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from simserve.cli.entry import app as cli

pytest.importorskip("streamlit")
Open, Words = Callable[..., Any], Callable[[Any], str]

SWEEP = """\
base: quickstart
axes:
  - {key: pools.0.engine.max_num_seqs, values: [4, 64]}
  - {key: model, values: [llama-3.1-8b, llama-3.1-405b]}
  - {key: pools.0.replicas, values: [1, 2]}
overrides: [workload.trace.limit=20]
"""


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep half of whose points fail: that model does not fit."""
    folder = tmp_path_factory.mktemp("swept")
    (folder / "sweep.yaml").write_text(SWEEP)
    done = CliRunner().invoke(
        cli, ["sweep", str(folder / "sweep.yaml"), "--out", str(folder / "out"), "--workers", "1"]
    )
    assert (folder / "out" / "results.parquet").exists(), done.output
    return folder


def test_curves_map_and_points(swept: Path, open_page: Open, words_of: Words, monkeypatch: Any) -> None:
    monkeypatch.setenv("SIMSERVE_DASHBOARD_DIRS", str(swept))
    app = open_page("sweep", target="200")
    assert not app.exception
    assert app.selectbox(key="curve").options == ["pools.0.engine.max_num_seqs", "model", "pools.0.replicas"]
    assert app.number_input(key="target").value == 200.0
    assert len(app.get("plotly_chart")) == 2
    assert "4 points are failed" in words_of(app)
    points = app.dataframe[0].value
    assert len(points) == 8
    done = points[points["status"] == "done"]
    assert done["run"].str.startswith("/result?run=out/points/").all()
    for link in done["run"]:
        opened = open_page("result", run=link.partition("=")[2])
        assert not opened.warning
        assert len(opened.metric) == 8


def test_points_are_named_by_their_settings_below_the_runs(
    swept: Path, made_runs: Path, tmp_path: Path, open_page: Open, words_of: Words, monkeypatch: Any
) -> None:
    shutil.copytree(swept / "out", tmp_path / "swp")
    shutil.copytree(made_runs / "one", tmp_path / "mine")
    os.utime(tmp_path / "mine" / "summary.json", (0, 0))
    monkeypatch.setenv("SIMSERVE_DASHBOARD_DIRS", str(tmp_path))
    app = open_page("result")
    names = app.selectbox(key="run").options
    assert names[0] == "mine", "own runs first, though the points are newer"
    points = [
        f"swp: max_num_seqs {seats}, llama-3.1-8b, replicas {count}" for seats in (4, 64) for count in (1, 2)
    ]
    assert sorted(names[1:]) == sorted(points)
    app.selectbox(key="run").select(points[0]).run()
    label = app.query_params["run"]
    assert label.startswith("swp/points/"), "the address stays"
    assert open_page("result", run=label).selectbox(key="run").value == label
    compared = open_page("compare", runs=["mine", label])
    assert not compared.exception
    assert compared.multiselect(key="runs").options == names
    assert list(compared.dataframe[0].value.columns) == ["key", "mine", points[0]]


def test_throughput_is_related_to_gpus_and_dollars(swept: Path, monkeypatch: Any) -> None:
    from dashboard.sweep_table import bases_of, draw_tradeoff, read_sweep, target_of

    monkeypatch.setenv("SIMSERVE_DASHBOARD_DIRS", str(swept))
    table = read_sweep(swept / "out")
    done = table[table["status"] == "done"].assign(accelerators=[1, 2] * 2, usd_per_hour=[3.0, None] * 2)
    assert bases_of(done) == {"in all": None, "per GPU": "accelerators", "per USD/hour": "usd_per_hour"}
    assert target_of(swept / "out", done, "p90_ttft_ms") == 1000.0
    assert target_of(swept / "out", done, "p99_itl_ms") is None
    for base, points in (("in all", 4), ("per GPU", 4), ("per USD/hour", 2)):
        column = bases_of(done)[base]
        *curves, front = draw_tradeoff(
            done, "p90_ttft_ms", "output_throughput", "model", 100.0, (base, column)
        ).data
        drawn = {key: x for curve in curves for key, x in zip(curve.customdata, curve.x, strict=True)}
        assert len(drawn) == points
        for key, x in drawn.items():
            (row,) = done[done["identity"] == key].to_dict("records")
            assert x == pytest.approx(row["output_throughput"] / (1 if column is None else row[column]))
        assert set(front.customdata) <= set(drawn)
        assert front.x[-1] == max(drawn.values())


def test_a_clicked_point_is_named_by_its_identity() -> None:
    from dashboard.plots import picked_of

    assert picked_of(None) is None
    assert picked_of({"selection": {"points": []}}) is None
    for found in ("abc", ["abc"]):
        assert picked_of({"selection": {"points": [{"customdata": found, "x": 1}]}}) == "abc"


def test_without_a_sweep_it_says_how_to_make_one(empty: Path, open_page: Open, words_of: Words) -> None:
    assert "simserve sweep" in words_of(open_page("sweep"))
    (empty / "results.parquet").write_text("no parquet")
    app = open_page("sweep")
    assert not app.exception
    assert "cannot be read" in words_of(app)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30))
def test_the_front_is_what_nobody_beats(points: list[tuple[int, int]]) -> None:
    from dashboard.sweep_table import best_points

    cost, gain = (np.array(column, float) for column in zip(*points, strict=True))
    front = {points[row] for row in best_points(cost, gain)}
    beaten = {(c, g) for c, g in points if any(a <= c and b >= g and (a, b) != (c, g) for a, b in points)}
    assert front == set(points) - beaten
