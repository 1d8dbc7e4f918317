"""The page *Roofline*: sliders change the step as `simserve.roofline` says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import simserve

pytest.importorskip("streamlit")
Open, Words = Callable[..., Any], Callable[[Any], str]


def figures_of(app: Any) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def test_sliders_move_the_step(empty: Path, open_page: Open) -> None:
    app = open_page("roofline")
    assert not app.exception
    for batch in (32, 256):
        app.select_slider(key="batch").set_value(batch).run()
        found = simserve.roofline("llama-3.1-8b", "h100-sxm", batch=batch, context=2048)
        assert figures_of(app)["Step"] == f"{found.step.step_s * 1e3:.3g} ms"
        operators = app.dataframe[0].value["operator"].tolist()
        assert operators == [row.operator for row in found.step.rows]
    assert len(app.get("plotly_chart")) == 1


def test_what_if_stands_beside(empty: Path, open_page: Open) -> None:
    app = open_page("roofline", bandwidth="2x", batch="1")
    assert not app.exception
    assert app.select_slider(key="batch").value == 1, "the address holds the view"
    app.select_slider(key="bandwidth").set_value(2.0).run()
    found = simserve.roofline("llama-3.1-8b", "h100-sxm", context=2048, what_if="bandwidth=2x")
    assert found.changed is not None
    assert figures_of(app)["What if"] == f"{found.changed.step_s * 1e3:.3g} ms"


def test_precisions_and_a_prompt_in_the_step(empty: Path, open_page: Open, words_of: Words) -> None:
    app = open_page("roofline", model="gone", kv_cache_dtype="fp8")
    assert "no model 'gone'" in words_of(app)
    app.select_slider(key="quantization").set_value("fp8")
    app.select_slider(key="prefill").set_value(512).run()
    assert not app.exception
    found = simserve.roofline(
        "llama-3.1-8b", "h100-sxm", batch=32, context=2048, prefill=512, quantization="fp8",
        kv_cache_dtype="fp8",
    )  # fmt: skip
    step_s = found.step.step_s
    assert figures_of(app)["Step"] == f"{step_s * 1e3:.3g} ms"
    assert app.metric[0].delta == f"{32 / step_s:,.0f} tokens/s"
    assert figures_of(app)["Prompt tokens"] == f"{512 / step_s:,.0f}/s"
    roofs = [trace.name for trace in simserve.draw_roofline(found).data if trace.mode == "lines"]
    assert sorted(roof.split()[0] for roof in roofs) == ["bfloat16", "fp8"], "no roof of int8"


def test_what_cannot_be_split_is_told(empty: Path, open_page: Open, words_of: Words) -> None:
    app = open_page("roofline")
    app.select_slider(key="batch").set_value(0).run()
    assert "An empty step" in words_of(app)
    app.select_slider(key="batch").set_value(1)
    app.selectbox(key="model").set_value("qwen2.5-0.5b")
    app.select_slider(key="tp").set_value(8).run()
    assert not app.exception
    assert "14" in words_of(app), "its 14 heads are no multiple of 8"
