"""The page *Result*: figures in the colours of their targets, pictures, and only the own folders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import simserve

pytest.importorskip("streamlit")
Open, Words = Callable[..., Any], Callable[[Any], str]


def test_figures_and_bottleneck(runs: Path, open_page: Open, words_of: Words) -> None:
    app = open_page("result", run="two")
    assert not app.exception
    summary = json.loads((runs / "two" / "summary.json").read_text())
    figures = {metric.label: metric for metric in app.metric}
    assert figures["TTFT p90"].value == f"{summary['p90_ttft_ms']:.3g} ms"
    assert figures["TTFT p90"].delta == "p99 within 1 s"
    assert figures["Completed"].value == "60"
    assert summary["bottleneck"] in words_of(app)


@pytest.mark.parametrize(
    "picture", ["Latencies", "Latencies over time", "Load over time", "Requests", "Where time goes", "Steps"]
)
def test_every_picture_is_drawn(runs: Path, open_page: Open, picture: str) -> None:
    app = open_page("result", run="one")
    app.segmented_control(key="result-picture").set_value(picture).run()
    assert not app.exception
    assert len(app.get("plotly_chart")) == 1


def test_a_part_of_the_run_is_drawn_anew(runs: Path, open_page: Open) -> None:
    app = open_page("result", run="one")
    assert not app.slider
    app.segmented_control(key="result-picture").set_value("Requests").run()
    app.slider(key="result-part").set_value((40.0, 60.0)).run()
    assert not app.exception
    drawn = json.loads(app.get("plotly_chart")[0].proto.spec)["layout"]
    end_s = json.loads((runs / "one" / "summary.json").read_text())["duration"]
    assert drawn["xaxis"]["range"] == pytest.approx([0.4 * end_s, 0.6 * end_s], rel=0.01)
    assert "that lived from" in drawn["title"]["text"]


def test_scenario_and_downloads_come_when_they_are_opened(runs: Path, open_page: Open) -> None:
    app = open_page("result", run="one")
    assert not app.code
    app.session_state["result-more"] = True
    app.run()
    assert not app.exception
    assert app.code[0].value == (runs / "one" / "scenario.yaml").read_text().strip()


def test_a_run_that_names_code_is_shown_from_its_record(
    empty: Path, made_runs: Path, open_page: Open, words_of: Words
) -> None:
    shutil.copytree(made_runs / "two", empty / "own")
    path = empty / "own" / "scenario.yaml"
    path.write_text(path.read_text().replace("kind: vllm", "kind: 'os:system'"))
    app = open_page("result")
    app.segmented_control(key="result-picture").set_value("Where time goes").run()
    assert not app.exception
    assert len(app.get("plotly_chart")) == 1


def test_a_picture_without_its_table_says_what_to_do(
    empty: Path, made_runs: Path, open_page: Open, words_of: Words
) -> None:
    shutil.copytree(made_runs / "two", empty / "old")
    (empty / "old" / "time_parts.parquet").unlink()
    app = open_page("result")
    app.segmented_control(key="result-picture").set_value("Where time goes").run()
    assert not app.exception
    assert "run its scenario again" in words_of(app)


def test_small_tables_are_text_with_every_figure(runs: Path, open_page: Open, words_of: Words) -> None:
    app = open_page("result", run="two")
    assert not app.dataframe, "the grid is not loaded for a few rows"
    summary = json.loads((runs / "two" / "summary.json").read_text())
    assert f"| TTFT | {summary['mean_ttft_ms']:.4g} |" in words_of(app)


def test_an_empty_folder_says_how_to_begin(empty: Path, open_page: Open, words_of: Words) -> None:
    assert "page *Run*" in words_of(open_page("result"))


def test_a_run_elsewhere_is_not_opened(
    empty: Path, tmp_path_factory: pytest.TempPathFactory, made_runs: Path, open_page: Open, words_of: Words
) -> None:
    shutil.copytree(made_runs / "two", empty / "mine")
    (empty / "link").symlink_to(made_runs / "one")
    for name in (str(made_runs / "one"), "../one", "link"):
        app = open_page("result", run=name)
        assert not app.exception
        assert "no run" in words_of(app)
        assert app.selectbox(key="run").options == ["mine"]


def test_going_back_shows_what_the_address_names(runs: Path) -> None:
    from streamlit.testing.v1 import AppTest

    app = AppTest.from_string("from dashboard.views import result\nresult.show()\n", default_timeout=60)
    app.query_params["run"] = "two"
    # The page was here before, and Streamlit has forgotten what was chosen on it since.
    app.session_state["named-run"] = "two"
    assert app.run().selectbox(key="run").value == "two"


def test_names_read_as_they_are(empty: Path, made_runs: Path, open_page: Open) -> None:
    shutil.copytree(made_runs / "two", empty / "mine")
    path = empty / "mine" / "summary.json"
    name = "![x](http://elsewhere/beacon.png) :red[y] <b>z</b>"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"name": name, "warnings": [name]}))
    app = open_page("result")
    assert not app.exception
    for shown in (app.subheader[0].value, app.warning[0].value):
        assert r"\!\[x\]\(http" in shown
        assert r"\:red\[y\] \<b\>" in shown


def test_the_head_says_what_served_which_load(runs: Path, open_page: Open, words_of: Words) -> None:
    head = words_of(open_page("result", run="one"))
    assert "one · llama-3.1-8b on 1 x h100-sxm, vllm 0.19 · chat.csv.gz, its own rate" in head


def test_like_reasons_are_told_together() -> None:
    from dashboard.run_figures import tell_failures

    failures = {f"a prompt of {1000 + number} tokens": 1 for number in range(345)}
    failures |= {"timeout": 400, "no memory": 1, "queue full": 2, "cancelled": 1}
    assert tell_failures(failures) == [
        "400 requests failed: timeout",
        "345 requests failed, such as: a prompt of 1000 tokens",
        "2 requests failed: queue full",
        "2 requests failed for 2 other reasons",
    ]
    assert tell_failures({"timeout": 1}) == ["1 request failed: timeout"]


def test_a_run_without_completed_requests_says_why(
    empty: Path, made_runs: Path, open_page: Open, words_of: Words
) -> None:
    shutil.copytree(made_runs / "two", empty / "failed")
    path = empty / "failed" / "summary.json"
    summary = json.loads(path.read_text())
    failed: dict[str, Any] = {key: None for key in summary if key.endswith("_ms")}
    path.write_text(
        json.dumps(summary | failed | {"completed": 0, "failed": 60, "failures": {"too long": 60}})
    )
    app = open_page("result")
    assert not app.exception
    assert "No request completed" in words_of(app)
    assert "60 requests failed: too long" in words_of(app)


@pytest.fixture
def at_once(empty: Path, made_runs: Path) -> Path:
    """Two runs: one of a static batch, whose requests get all tokens at once, and one that streams."""
    few = ["workload.requests=40"]
    simserve.simulate(simserve.load_scenario("static-batching", few)).write(empty / "static")
    shutil.copytree(made_runs / "two", empty / "two")
    return empty


def test_nothing_observed_is_no_zero(at_once: Path, open_page: Open, words_of: Words) -> None:
    from dashboard.difference_table import difference_table
    from simserve import RunFolder, distribution_of, draw_comparison, draw_run

    app = open_page("result", run="static")
    assert not app.exception
    tile = next(metric for metric in app.metric if metric.label == "TPOT p90")
    assert (tile.value, tile.delta) == ("–", "nothing observed")
    assert "each request got all its tokens at once" in words_of(app)
    assert "| TPOT | – |" in words_of(app)
    runs = {name: RunFolder.read(at_once / name) for name in ("static", "two")}
    for name in ("tpot", "itl"):
        assert not len(distribution_of(runs["static"], name, 100)[0])
        assert len(distribution_of(runs["two"], name, 100)[0])
    figure = draw_run(runs["static"], "latency_distributions")
    assert [bool(len(trace.x)) for trace in figure.data] == [True, False, False, True]
    assert figure.layout.xaxis2.range[0] == 0
    assert draw_run(runs["static"], "latencies_over_time").data
    assert sum(len(trace.x) > 0 for trace in draw_comparison(runs, "latencies").data) == 6
    row = difference_table(runs).set_index("figure").loc["p90_tpot_ms"]
    assert np.isnan(row["static"])
    assert np.isnan(row["two, change in %"])
    compared = open_page("compare", runs=["two", "static"])
    assert not compared.exception
    assert "No TPOT and ITL" in words_of(compared)


def test_a_broken_run_is_told(empty: Path, made_runs: Path, open_page: Open, words_of: Words) -> None:
    shutil.copytree(made_runs / "two", empty / "broken")
    (empty / "broken" / "summary.json").write_text("{")
    app = open_page("result")
    assert not app.exception
    assert "holds no run" in words_of(app)


@pytest.mark.parametrize(
    ("target_s", "color"), [(None, "gray"), (3.0, "green"), (1.5, "orange"), (0.5, "red")]
)
def test_colours_follow_the_target(target_s: float | None, color: str) -> None:
    from dashboard.run_figures import judge

    assert judge({"p90_ttft_ms": 1000.0, "p99_ttft_ms": 2000.0}, "ttft", target_s)[1] == color
