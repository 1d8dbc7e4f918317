"""The page *Sweep*: curves, a heat map and the points of a sweep, failed ones with their reasons."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import simserve
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
    assert "4 points failed" in words_of(app)
    points = app.dataframe[0].value
    assert len(points) == 8
    done = points[points["status"] == "done"]
    assert done["run"].str.startswith("/result?run=out/points/").all()
    opened = open_page("result", run=done["run"].iloc[-1].partition("=")[2])
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
    from dashboard.sweep_figures import draw_tradeoff
    from dashboard.sweep_table import bases_of, read_sweep, target_of

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


@pytest.fixture
def mine(swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the sweep, to be spoilt."""
    shutil.copytree(swept / "out", tmp_path / "home" / "mine")
    monkeypatch.setenv("SIMSERVE_DASHBOARD_DIRS", str(tmp_path / "home"))
    return tmp_path / "home" / "mine"


def test_a_sweep_at_work_is_followed(mine: Path, open_page: Open, words_of: Words) -> None:
    table = pd.read_parquet(mine / "results.parquet")
    later = table["point"] >= 6
    table.loc[later, "status"] = "missing"
    table.to_parquet(mine / "results.parquet")
    with (mine / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        (bar,) = open_page("sweep").get("progress")
    assert bar.proto.text.startswith("6 of 8 points have ended")
    assert "at work" in bar.proto.text
    stopped = open_page("sweep")
    assert not stopped.get("progress")
    assert "run the sweep again" in words_of(stopped)


def test_the_point_that_is_shown_is_in_the_address(mine: Path, open_page: Open, words_of: Words) -> None:
    table = pd.read_parquet(mine / "results.parquet")
    first = table[table["status"] == "done"].iloc[0]
    app = open_page("sweep", shown=first["identity"])
    assert not app.exception
    assert f"**Point {first['point']}**" in words_of(app)
    assert app.query_params["shown"] == first["identity"]
    curves = json.loads(app.get("plotly_chart")[0].proto.spec)["data"]
    marked = [curve["customdata"][place] for curve in curves for place in curve.get("selectedpoints", [])]
    assert marked == [first["identity"]]
    next(button for button in app.button if button.label == "Close").click().run()
    assert "shown" not in app.query_params
    assert "**Point" not in words_of(app)
    assert "no point" in words_of(open_page("sweep", shown="feedfeed"))


def test_seeds_are_one_point_with_a_range(swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dashboard.sweep_figures import draw_tradeoff
    from dashboard.sweep_table import merge_seeds, read_sweep

    monkeypatch.setenv("SIMSERVE_DASHBOARD_DIRS", str(swept))
    table = read_sweep(swept / "out")
    done = table[table["status"] == "done"]
    other = done.assign(seed=1, identity=done["identity"].str[::-1], p90_ttft_ms=done["p90_ttft_ms"] * 3)
    both = pd.concat([done, other], ignore_index=True)
    merged = merge_seeds(both, ["p90_ttft_ms"])
    assert merged["identity"].tolist() == done["identity"].tolist()
    assert merged["p90_ttft_ms"].tolist() == pytest.approx((done["p90_ttft_ms"] * 2).tolist())
    marked = other["identity"].iloc[0]
    axis = "pools.0.engine.max_num_seqs"
    *curves, _ = draw_tradeoff(both, "p90_ttft_ms", "output_throughput", axis, None, chosen=marked).data
    assert sum(len(curve.x) for curve in curves) == 4
    for curve in curves:
        assert curve.error_y.array == pytest.approx(np.asarray(curve.y) / 2)
        assert curve.error_x.visible is False
    assert [len(curve.selectedpoints or ()) for curve in curves] == [1, 0]


def test_what_leads_out_of_the_folders_is_not_read(
    mine: Path, made_runs: Path, open_page: Open, words_of: Words
) -> None:
    from dashboard.sweep_table import point_folder, target_of

    stranger = pd.read_parquet(mine / "results.parquet").assign(identity="../../../one")
    assert target_of(mine, stranger, "p90_ttft_ms") is None
    inside = pd.read_parquet(mine / "results.parquet")
    assert target_of(mine, inside, "p90_ttft_ms") == 1000.0
    identity = inside["identity"].iloc[0]
    shutil.rmtree(mine / "points" / identity)
    (mine / "points" / identity).symlink_to(made_runs / "one")
    with pytest.raises(simserve.InputError, match="outside"):
        point_folder(mine, identity)
    shutil.rmtree(mine / "points")
    app = open_page("sweep", shown=identity)
    assert not app.exception
    assert "cannot be read" in words_of(app)
    assert len(app.get("plotly_chart")) == 2, "without its points a sweep is still a table"
    shutil.move(mine / "results.parquet", mine.parent.parent / "results.parquet")
    (mine / "results.parquet").symlink_to(mine.parent.parent / "results.parquet")
    assert "outside of the folders" in words_of(open_page("sweep"))


def test_a_map_breaks_at_its_target(swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dashboard.sweep_figures import draw_heat

    axes = ["a", "b"]
    table = pd.DataFrame(
        [[0, 0, 10.0], [0, 1, 101234.0], [1, 0, 1000.0], [1, 1, np.nan]], columns=[*axes, "f"]
    )
    (heat,) = draw_heat(table, "a", "b", "f", 1000.0).data
    assert [*map(list, heat.text)] == [["10", "1,000"], ["101,234", "–"]]
    scale = [place for place, _ in heat.colorscale]
    assert scale == pytest.approx([0, 2 / np.log10(10123.4), 2 / np.log10(10123.4), 1], abs=1e-6)
    (plain,) = draw_heat(table, "a", "b", "f").data
    assert plain.zmin is None


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30))
def test_the_front_is_what_nobody_beats(points: list[tuple[int, int]]) -> None:
    from dashboard.sweep_figures import best_points

    cost, gain = (np.array(column, float) for column in zip(*points, strict=True))
    front = {points[row] for row in best_points(cost, gain)}
    beaten = {(c, g) for c, g in points if any(a <= c and b >= g and (a, b) != (c, g) for a, b in points)}
    assert front == set(points) - beaten
