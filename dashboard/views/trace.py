"""*Trace*: a workload's arrivals, lengths, burstiness and reuse, before it is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from dashboard.folders import find_traces, label_of
from dashboard.plots import format_figure, page, percent, show_figure, show_metrics, show_table
from dashboard.trace_pictures import draw_arrivals, draw_gaps, draw_lengths, draw_prompts_over_time
from simserve import Workload, catalog_names, describe_trace, find_file, read_trace


@page
def show() -> None:
    """Show the page."""
    st.title("Trace")
    shipped = {name: find_file(name) for name in catalog_names("traces")}
    known = {**shipped, **{name: path for name, path in find_traces().items() if name not in shipped}}
    name = st.selectbox("Workload", list(known), key="trace", bind="query-params")
    if name is None:
        return
    if name not in shipped:
        label_of(known[name])
    load, found = _read(str(known[name]), known[name].stat().st_mtime_ns)
    _show_figures(found)
    if found["duration_s"] is not None:
        left, right = st.columns(2)
        with left:
            show_figure(draw_arrivals(load), "arrivals")
        with right:
            show_figure(draw_gaps(load), "gaps")
    else:
        st.info("It records lengths only: a scenario gives it `arrivals`.", icon=":material/lightbulb:")
    show_figure(draw_lengths(load), "lengths")
    if found["duration_s"] is not None:
        show_figure(draw_prompts_over_time(load), "prompts")
    _show_lengths(found)
    st.caption(f"In a scenario: `workload: {{trace: {{path: {name}}}}}`")


@st.cache_resource(max_entries=4, show_spinner="Reading the trace")
def _read(path: str, stamp: int) -> tuple[Workload, dict[str, Any]]:
    load = read_trace(Path(path))
    return load, describe_trace(load).to_dict()


def _show_figures(found: dict[str, Any]) -> None:
    rate = None if found["mean_per_min"] is None else found["mean_per_min"] / 60
    peak = "–" if found["peak_per_min"] is None else f"busiest minute {found['peak_per_min'] / 60:.3g}"
    steady = "–" if found["cv"] is None else "as Poisson is 1"
    show_metrics(
        [
            ("Requests", f"{found['requests']:,}", f"{found['sessions']:,} sessions", "gray"),
            ("Mean rate, 1/s", format_figure(rate), peak, "gray"),
            ("Burstiness (CV)", format_figure(found["cv"]), steady, "gray"),
            ("Dispersion, 1 s", format_figure(found["dispersion_1s"]), steady, "gray"),
            ("Reuse at best", percent(found["ideal_prefix_hit"]), "of prompt tokens", "gray"),
        ]
    )


def _show_lengths(found: dict[str, Any]) -> None:
    import pandas as pd

    rows = [
        {"tokens": name, **{key: values[key] for key in ("mean", "p50", "p95", "p99", "max")}}
        for name, values in (
            ("prompt", found["prompt_tokens"]),
            ("output", found["output_tokens"]),
        )
    ]
    show_table(pd.DataFrame(rows).round(1), "lengths-table")
