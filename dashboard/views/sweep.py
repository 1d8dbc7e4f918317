"""*Sweep*: the results of many runs along axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from dashboard.folders import find_sweeps, label_of, roots
from dashboard.plots import page, show_figure, show_table
from dashboard.sweep_table import axes_of, draw_heat, draw_tradeoff, figures_of, read_sweep

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd


@page
def show() -> None:
    """Show the page."""
    st.title("Sweep")
    found = find_sweeps()
    if not found:
        st.info(
            f"There is no sweep below {', '.join(map(str, roots()))} yet. Write which keys to vary into a "
            "file and run `simserve sweep sweep.yaml --out sweep`.",
            icon=":material/lightbulb:",
        )
        return
    name = st.selectbox("Sweep", list(found), key="sweep", bind="query-params")
    if name is None:
        return
    table = read_sweep(found[name])
    done = table[table["status"] == "done"]
    _tell_failures(table)
    axes, figures = axes_of(table), figures_of(table)
    if not len(done) or not axes:
        st.warning("No point has a result yet: run the sweep again, it goes on where it stopped.")
    else:
        _show_tradeoff(done, axes, figures)
        if len(axes) > 1:
            _show_heat(done, axes, figures)
    st.subheader("Points")
    _show_points(table, found[name], axes)


def _tell_failures(table: pd.DataFrame) -> None:
    for status, count in table["status"].value_counts().items():
        if status != "done":
            reasons = sorted(set(table.loc[table["status"] == status, "reason"]) - {""})
            st.warning(f"{count} points are {status}. {'; '.join(reasons)}", icon=":material/warning:")


def _show_tradeoff(done: pd.DataFrame, axes: list[str], figures: list[str]) -> None:
    columns = st.columns(4)
    latencies = [name for name in figures if name.endswith("_ms")]
    rates = [name for name in figures if name.endswith(("throughput", "goodput"))]
    latency = _pick(columns[0], "Latency", latencies, "p90_ttft_ms", "latency")
    rate = _pick(columns[1], "Throughput", rates, "request_throughput", "throughput")
    line = _pick(columns[2], "A curve for each", axes, axes[0], "curve")
    target = columns[3].number_input(
        "Target, ms", min_value=0.0, value=None, key="target", bind="query-params", placeholder="none"
    )
    show_figure(draw_tradeoff(done, latency, rate, line, target), "tradeoff")


def _show_heat(done: pd.DataFrame, axes: list[str], figures: list[str]) -> None:
    columns = st.columns(3)
    across = _pick(columns[0], "Across", axes, axes[-1], "across")
    down = _pick(columns[1], "Down", axes, axes[0], "down")
    figure = _pick(columns[2], "Figure", figures, "p90_ttft_ms", "heat")
    if across == down:
        st.info("Choose two different axes for the map.", icon=":material/lightbulb:")
    else:
        show_figure(draw_heat(done, across, down, figure), "heat")


def _pick(place: Any, label: str, options: list[str], value: str, key: str) -> str:
    index = options.index(value) if value in options else 0
    chosen: str = place.selectbox(label, options, index=index, key=key, bind="query-params")
    return chosen


def _show_points(table: pd.DataFrame, folder: Path, axes: list[str]) -> None:
    shown = table.drop(columns=["identity"]).copy()
    prefix = f"{label_of(folder)}/points/"
    links = [
        f"/result?run={prefix}{identity}" if status == "done" else None
        for identity, status in zip(table["identity"], table["status"], strict=True)
    ]
    shown.insert(0, "run", links)
    order = ["run", "point", "seed", *axes, "status", "request_throughput", "p90_ttft_ms", "p90_tpot_ms"]
    rest = [name for name in shown.columns if name not in order]
    shown = shown[[name for name in (*order, *rest) if name in shown.columns]]
    link = st.column_config.LinkColumn("run", display_text="open")
    show_table(shown, "points", column_config={"run": link})
