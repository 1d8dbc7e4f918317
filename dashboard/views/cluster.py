"""*Cluster*: a run's instances as a graph in the colours of their load, and a map of them over time."""

from __future__ import annotations

from collections import Counter
from math import floor, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from dashboard.folders import roots
from dashboard.plots import format_figure, page, percent, plain_text, show_figure, show_metrics
from dashboard.run_view import choose_stepped_run, open_run, stamp_of
from simserve import (
    ClusterLoad,
    SimserveError,
    cluster_graph,
    draw_cluster,
    draw_load,
    load_scenario,
    measure_load,
)

if TYPE_CHECKING:
    import pandas as pd

MEASURES = ("busy share", "KV use", "running", "waiting", "tokens/s")
# Cells of the map, and into how many intervals the run is cut at most.
_MOST_CELLS, _MOST_INTERVALS = 20_000, 200


@page
def show() -> None:
    """Show the page."""
    st.title("Cluster")
    run = choose_stepped_run("cluster", "no instance had any load. The page *Result* says why.")
    if run is not None:
        _show_figures(run.summary["pools"], _load(str(run.path), stamp_of(run.path)))
        _show_load(run.path)


def load_frame(load: ClusterLoad) -> pd.DataFrame:
    """Return a row for each instance and interval, with all measures."""
    import numpy as np
    import pandas as pd

    count, intervals = len(load.instances), len(load.edges_s) - 1
    columns: dict[str, Any] = {
        "instance": np.repeat(load.instances, intervals),
        "begin_s": np.tile(load.edges_s[:-1], count),
        "end_s": np.tile(load.edges_s[1:], count),
    }
    return pd.DataFrame(columns | {name: load.values[name].ravel() for name in MEASURES})


@st.cache_resource(max_entries=12, show_spinner="Measuring the load")
def _load(folder: str, stamp: int) -> ClusterLoad:
    run = open_run(Path(folder))
    count = sum(len(pool["instances"]) for pool in run.summary["pools"])
    return measure_load(run, max(1, min(_MOST_INTERVALS, _MOST_CELLS // max(count, 1))))


@st.cache_resource(max_entries=12, show_spinner=False)
def _graph(folder: str, stamp: int) -> Any:
    path = str(Path(folder) / "scenario.yaml")
    return cluster_graph(load_scenario(path, allow_imports=False, allow_files=roots()))


def _show_figures(pools: list[dict[str, Any]], load: ClusterLoad) -> None:
    busy = load.values["busy share"].mean(axis=1)
    least, most = load.instances[int(busy.argmin())], load.instances[int(busy.argmax())]
    gpus: Counter[str] = Counter()
    for pool in pools:
        gpus[pool["hardware"]] += pool["accelerators"]
    hardware = ", ".join(f"{count:,} x {name}" for name, count in gpus.items())
    waiting = float(load.values["waiting"].max())
    show_metrics(
        [
            ("Instances", f"{len(load.instances):,}", hardware, "gray"),
            ("Busy, mean", percent(float(busy.mean())), "of the run", "gray"),
            ("Busy, least and most", f"{busy.min() * 100:.0f} – {busy.max() * 100:.0f} %",
             f"instances {least} and {most}", "gray"),
            ("Queue, longest", format_figure(int(waiting)), "waiting at one instance", "gray"),
        ]
    )  # fmt: skip


def _ask_moment(place: Any, load: ClusterLoad) -> float:
    """Return a moment of the run, in seconds."""
    end_s, width_s = float(f"{load.edges_s[-1]:.6g}"), float(load.edges_s[1])
    # The run that was shown before may have been longer.
    if st.session_state.get("at", 0.0) > end_s:
        st.session_state["at"] = end_s
    digits = max(0, 1 - floor(log10(width_s)))
    moment: float = place.slider(
        "Moment, s", 0.0, end_s, round(end_s / 2, digits), float(f"{width_s:.2g}"), f"%.{digits}f", key="at",
        bind="query-params",
        help=f"The run is cut into {len(load.edges_s) - 1} intervals; the graph shows one, the map marks it.",
    )  # fmt: skip
    return moment


@st.fragment
def _show_load(folder: Path) -> None:
    """Show graph and map; choosing a measure or a moment runs this part of the page alone."""
    load = _load(str(folder), stamp_of(folder))
    left, right = st.columns(2)
    measure = left.segmented_control(
        "Colour", MEASURES, default=MEASURES[0], key="measure", bind="query-params"
    )
    measure = measure or MEASURES[0]
    intervals = len(load.edges_s) - 1
    interval = min(int(_ask_moment(right, load) / float(load.edges_s[1])), intervals - 1)
    try:
        graph = _graph(str(folder), stamp_of(folder))
    except SimserveError as error:
        st.warning(f"The graph cannot be drawn: {plain_text(error)}", icon=":material/warning:")
    else:
        show_figure(draw_cluster(graph, load, measure, interval), "cluster")
    show_figure(draw_load(load, measure, interval), "cluster-load", lambda: load_frame(load))
