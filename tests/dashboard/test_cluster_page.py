"""The page *Cluster*: the graph follows measure and moment, the map has every instance."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import simserve

pytest.importorskip("streamlit")
Open, Words = Callable[..., Any], Callable[[Any], str]


def specs(app: Any) -> list[dict[str, Any]]:
    return [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]


def test_the_graph_follows_the_slider(runs: Path, open_page: Open) -> None:
    app = open_page("cluster", run="two")
    assert not app.exception
    graph, chart = specs(app)
    assert chart["data"][0]["type"] == "heatmap"
    assert chart["data"][0]["y"] == ["0", "1"]
    assert {metric.label: metric.value for metric in app.metric}["Instances"] == "2"
    end_s = app.slider(key="at").max
    steps = simserve.RunFolder.read(runs / "two").steps
    assert end_s == pytest.approx(steps["end_s"].max(), rel=1e-5), "the slider is in seconds"
    app.slider(key="at").set_value(0.9 * end_s).run()
    assert not app.exception
    later, _ = specs(app)
    begin, end = map(float, re.findall(r"[\d.]+", later["layout"]["title"]["text"].partition(",")[2]))
    assert begin <= 0.9 * end_s * 1.001
    assert end >= 0.9 * end_s * 0.999
    assert later["layout"]["title"]["text"] != graph["layout"]["title"]["text"]


def test_a_moment_after_the_end_is_no_error(runs: Path, open_page: Open) -> None:
    app = open_page("cluster", run="one", at="1e9")
    assert not app.exception
    moment = app.slider(key="at")
    moment.set_value(moment.max).run()
    for other in ("two", "one"):
        app.selectbox(key="run").select(other).run()
        assert not app.exception
        assert app.slider(key="at").value <= app.slider(key="at").max


@pytest.mark.parametrize("measure", ["KV use", "running", "waiting", "tokens/s"])
def test_every_measure_is_drawn(runs: Path, open_page: Open, measure: str) -> None:
    app = open_page("cluster", run="one", measure=measure)
    assert not app.exception
    graph, chart = specs(app)
    assert graph["layout"]["title"]["text"].startswith(measure)
    assert chart["layout"]["title"]["text"].startswith(measure)


def test_a_policy_of_the_users_own_is_not_imported(
    empty: Path, made_runs: Path, open_page: Open, words_of: Words
) -> None:
    import shutil

    shutil.copytree(made_runs / "two", empty / "mine")
    path = empty / "mine" / "scenario.yaml"
    path.write_text(path.read_text().replace("policy: least_outstanding", "policy: mine.router:Mine"))
    app = open_page("cluster")
    assert not app.exception
    assert "The graph cannot be drawn" in words_of(app)
    assert len(specs(app)) == 1
