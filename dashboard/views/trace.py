"""*Trace*: a workload's arrivals, lengths, burstiness and reuse, before it is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from dashboard.folders import find_scenarios, find_traces, label_of, roots
from dashboard.plots import format_figure, page, percent, show_figure, show_metrics, show_small_table
from dashboard.run_choice import tell_unknown
from dashboard.trace_pictures import (
    draw_arrivals,
    draw_dispersion,
    draw_gaps,
    draw_lengths,
    draw_prompts_over_time,
    draw_reuse,
)
from simserve import (
    ReuseCurve,
    Workload,
    catalog_names,
    describe_trace,
    find_file,
    load_scenario,
    read_trace,
    reuse_curve,
    workload_of,
)

_SOURCES = ("a trace", "a scenario's workload")
_PICTURES = ("Arrivals", "Lengths", "Reuse")


@page
def show() -> None:
    """Show the page."""
    st.title("Trace")
    left, right = st.columns([1, 2])
    kind = left.segmented_control("Look at", _SOURCES, default=_SOURCES[0], key="of", bind="query-params")
    if kind == _SOURCES[1]:
        shipped, own = {name: name for name in catalog_names("scenarios")}, find_scenarios()
        label, key = "Scenario", "scenario"
    else:
        shipped, own = {name: str(find_file(name)) for name in catalog_names("traces")}, find_traces()
        label, key = "Workload", "trace"
    known = {name: str(path) for name, path in own.items()} | shipped
    options = [*shipped, *(name for name in own if name not in shipped)]
    tell_unknown(key, options)
    name = right.selectbox(label, options, key=key, bind="query-params")
    if name is None:
        return
    if name not in shipped:
        label_of(own[name])
    stamp = _stamp(known[name])
    load, found = _read(known[name], kind == _SOURCES[1], stamp)
    _show_figures(found)
    picture = st.segmented_control(
        "Picture", _PICTURES, default=_PICTURES[0], key="picture", bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
    if picture == "Reuse":
        _show_reuse(_reuse(known[name], kind == _SOURCES[1], stamp))
    elif picture == "Lengths":
        show_figure(draw_lengths(load), "lengths")
        if found["duration_s"] is not None:
            show_figure(draw_prompts_over_time(load), "prompts")
        _show_lengths(found)
    else:
        _show_arrivals(load, found)
    if kind != _SOURCES[1]:
        st.caption(f"In a scenario: `workload: {{trace: {{path: {name}}}}}`")


def _stamp(source: str) -> int:
    """Return when a file was changed; 0 of what is shipped."""
    path = Path(source)
    return path.stat().st_mtime_ns if path.is_file() else 0


@st.cache_resource(max_entries=4, show_spinner="Reading the workload")
def _read(source: str, is_scenario: bool, stamp: int) -> tuple[Workload, dict[str, Any]]:
    if is_scenario:
        load = workload_of(load_scenario(source, allow_imports=False, allow_files=roots()))
    else:
        load = read_trace(Path(source))
    return load, describe_trace(load).to_dict()


@st.cache_resource(max_entries=16, show_spinner="Looking for shared prefixes")
def _reuse(source: str, is_scenario: bool, stamp: int) -> ReuseCurve | None:
    return reuse_curve(_read(source, is_scenario, stamp)[0])


def _show_figures(found: dict[str, Any]) -> None:
    rate = None if found["mean_per_min"] is None else found["mean_per_min"] / 60
    peak = "–" if found["peak_per_min"] is None else f"busiest minute {found['peak_per_min'] / 60:.3g}"
    sessions = f"{found['sessions']:,} sessions" if found["sessions"] else "no sessions"
    show_metrics(
        [
            ("Requests", f"{found['requests']:,}", sessions, "gray"),
            ("Mean rate, 1/s", format_figure(rate), peak, "gray"),
            ("Burstiness (CV)", format_figure(found["cv"]), *_burstiness(found["cv"])),
            ("Dispersion, 1 s", format_figure(found["dispersion_1s"]), *_burstiness(found["dispersion_1s"])),
            ("Reuse at best", percent(found["ideal_prefix_hit"]), "by earlier prompts", "gray"),
        ]
    )


def _burstiness(value: float | None) -> tuple[str, str]:
    """Return how a figure compares with that of a Poisson process, which is 1, and its colour."""
    if value is None:
        return "–", "gray"
    if value > 1.2:
        return "above Poisson's 1", "orange"
    return ("below Poisson's 1" if value < 0.8 else "as Poisson's 1"), "gray"


def _show_arrivals(load: Workload, found: dict[str, Any]) -> None:
    if found["duration_s"] is None:
        st.info(
            "It has no arrivals of its own: it records lengths only, and a scenario gives it `arrivals`, or "
            "its requests are sent as others end (`closed_loop`).",
            icon=":material/lightbulb:",
        )
        return
    show_figure(draw_arrivals(load), "arrivals")
    left, right = st.columns(2)
    with left:
        show_figure(draw_gaps(load), "gaps")
    with right:
        show_figure(draw_dispersion(load), "dispersion")


def _show_reuse(curve: ReuseCurve | None) -> None:
    if curve is None:
        st.info("Every prompt is of its own: there is nothing to reuse.", icon=":material/lightbulb:")
        return
    show_figure(draw_reuse(curve), "reuse")
    st.caption(
        f"Of the first {curve.requests:,} requests, one after the other: which share of their prompt tokens "
        "a cache of that many tokens would have, if it kept the prompts and outputs that were used last. A "
        "run's KV blocks times its block size is such a number."
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
    show_small_table(pd.DataFrame(rows), "lengths-table")
