"""The page *Trace*: a workload's figures and pictures, of shipped traces and of those in the own folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import simserve

pytest.importorskip("streamlit")
Open, Words = Callable[..., Any], Callable[[Any], str]


@pytest.mark.parametrize("name", simserve.catalog_names("traces"))
def test_shipped_traces(empty: Path, open_page: Open, name: str) -> None:
    app = open_page("trace", trace=name)
    assert not app.exception
    found = simserve.describe_trace(simserve.read_trace(simserve.find_file(name)))
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["Requests"] == f"{found.requests:,}"
    assert (shown["Reuse at best"] == "–") == (found.ideal_prefix_hit is None)
    charts = {"Arrivals": 3, "Lengths": 2, "Reuse": 0 if found.ideal_prefix_hit is None else 1}
    for picture, count in charts.items():
        app.segmented_control(key="picture").set_value(picture).run()
        assert not app.exception
        assert len(app.get("plotly_chart")) == count


def test_own_and_broken_traces(empty: Path, open_page: Open, words_of: Words) -> None:
    (empty / "lengths.csv").write_text("num_prefill_tokens,num_decode_tokens\n10,20\n30,40\n")
    (empty / "broken.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,x,1\n")
    app = open_page("trace", trace="lengths.csv")
    assert not app.exception
    assert "lengths only" in words_of(app)
    app.selectbox(key="trace").set_value("broken.csv").run()
    assert not app.exception
    assert "broken.csv:2" in words_of(app)


def test_generated_workloads_are_shown_before_they_run(empty: Path, open_page: Open, words_of: Words) -> None:
    app = open_page("trace", of="a scenario's workload", scenario="shared-prefix", picture="Reuse")
    assert not app.exception
    found = simserve.workload_of(simserve.load_scenario("shared-prefix"))
    assert {metric.label: metric.value for metric in app.metric}["Requests"] == f"{found.count:,}"
    assert len(app.get("plotly_chart")) == 1
    (empty / "mine.yaml").write_text(
        "model: llama-3.1-8b\npools: {hardware: h100-sxm, engine: {kind: 'os:system'}}\n"
        "workload: {arrivals: 10, prompt_tokens: 512, output_tokens: 64, requests: 20}\n"
    )
    app = open_page("trace", of="a scenario's workload", scenario="mine.yaml")
    assert "import code" in words_of(app)


def test_dispersion_of_poisson_arrivals_is_one() -> None:
    from dashboard.trace_pictures import draw_dispersion

    text = (
        "model: llama-3.1-8b\npools: {hardware: h100-sxm}\n"
        "workload: {arrivals: 100, prompt_tokens: 512, output_tokens: 64, requests: 20000}\n"
    )
    curve = draw_dispersion(simserve.workload_of(simserve.load_scenario(text))).data[0]
    found = dict(zip(curve.x, curve.y, strict=True))
    assert np.mean([value for interval, value in found.items() if interval < 1]) == pytest.approx(1, abs=0.1)


def test_arrivals_keep_their_number() -> None:
    from dashboard.trace_pictures import draw_arrivals

    load = simserve.read_trace(simserve.find_file("traces/chat.csv.gz"))
    (curve,) = draw_arrivals(load).data
    wide = curve.x[1] - curve.x[0]
    assert np.asarray(curve.y).sum() * wide == pytest.approx(load.count)


def test_an_unknown_trace_is_told(empty: Path, open_page: Open, words_of: Words) -> None:
    app = open_page("trace", trace="gone")
    assert not app.exception
    assert "There is no trace 'gone'" in words_of(app)
