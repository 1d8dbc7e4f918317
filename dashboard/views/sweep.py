"""*Sweep*: the results of many runs along axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from dashboard.folders import find_sweeps, label_of, roots
from dashboard.plots import page, pick_point, show_figure, show_table
from dashboard.run_choice import describe_settings, link_to
from dashboard.run_view import show_run
from dashboard.sweep_table import (
    axes_of,
    bases_of,
    draw_heat,
    draw_tradeoff,
    figures_of,
    read_sweep,
    target_of,
)

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
        _show_tradeoff(done, axes, figures, found[name])
        if len(axes) > 1:
            _show_heat(done, axes, figures)
    st.subheader("Points")
    _show_points(table, found[name], axes)


def _tell_failures(table: pd.DataFrame) -> None:
    for status, count in table["status"].value_counts().items():
        if status != "done":
            reasons = sorted(set(table.loc[table["status"] == status, "reason"]) - {""})
            st.warning(f"{count} points are {status}. {'; '.join(reasons)}", icon=":material/warning:")


def _show_tradeoff(done: pd.DataFrame, axes: list[str], figures: list[str], folder: Path) -> None:
    columns = st.columns([2, 2, 2, 2, 1])
    latencies = [name for name in figures if name.endswith("_ms")]
    rates = [name for name in figures if name.endswith(("throughput", "goodput"))]
    bases = bases_of(done)
    latency = _pick(columns[0], "Latency", latencies, "p90_ttft_ms", "latency")
    rate = _pick(columns[1], "Throughput", rates, "request_throughput", "throughput")
    base = _pick(columns[2], "Related to", list(bases), "in all", "per")
    line = _pick(columns[3], "A curve for each", axes, axes[0], "curve")
    own = target_of(folder, done, latency)
    target = columns[4].number_input(
        "Target, ms", min_value=0.0, value=None, key="target", bind="query-params",
        placeholder="none" if own is None else f"{own:g}", help="Empty: that of the scenario.",
    )  # fmt: skip
    picture = draw_tradeoff(done, latency, rate, line, own if target is None else target, (base, bases[base]))
    picked = pick_point(picture, "tradeoff")
    if picked is not None and picked in set(done["identity"]):
        _show_point(done[done["identity"] == picked].iloc[0], axes, folder)


def _show_point(row: pd.Series[Any], axes: list[str], folder: Path) -> None:
    """Show the run of the point that was clicked."""
    way = folder / "points" / str(row["identity"])
    settings = describe_settings({name: row[name] for name in axes})
    with st.container(border=True):
        st.markdown(
            f"**Point {row['point']}**: {settings}, seed {row['seed']}. "
            f"[Open it on a page of its own]({link_to('result', run=label_of(way))})"
        )
        show_run(way, "point")


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
