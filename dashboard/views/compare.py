"""*Compare*: two to six runs in the same pictures, and what differs between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from dashboard.difference_table import (
    difference_table,
    figure_table,
    judge_changes,
    setting_table,
    short_labels,
)
from dashboard.folders import find_runs, roots
from dashboard.plots import BAD, GOOD, offer_csv, page, plain_text, show_figure, show_table
from dashboard.run_choice import title_points
from dashboard.run_figures import explain_missing
from dashboard.run_view import open_run
from simserve import RunFolder, draw_comparison

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Mapping

    import pandas as pd

_MOST = 6
# What this page wrote into the address.
_NAMED = "named-runs"


@page
def show() -> None:
    """Show the page."""
    st.title("Compare")
    found = find_runs()
    if len(found) < 2:
        st.info(
            f"It takes two runs, and below {', '.join(map(str, roots()))} there are {len(found)}. Make "
            "another on the page *Run*: change a knob and run again.",
            icon=":material/lightbulb:",
        )
        return
    _take_named(found)
    titles = title_points(found)
    chosen = st.multiselect(
        "Runs, the first is what the others are compared with", list(found), key="runs",
        max_selections=_MOST, placeholder="Choose two to six",
        format_func=lambda label: titles.get(label, label),
    )  # fmt: skip
    st.query_params["runs"] = st.session_state[_NAMED] = chosen
    if len(chosen) < 2:
        st.info("Choose at least two runs.", icon=":material/lightbulb:")
        return
    labels = short_labels(chosen, titles)
    runs = {label: open_run(found[name]) for label, name in zip(labels, chosen, strict=True)}
    _show_overview(runs)
    _show_settings(runs)
    show_figure(draw_comparison(runs, "latencies"), "latencies")
    _show_differences(runs)
    show_figure(draw_comparison(runs, "load"), "load")


def _take_named(found: Collection[str]) -> None:
    """Choose the runs that the address names, if it was not this page that wrote them there."""
    state, named = st.session_state, list(dict.fromkeys(st.query_params.get_all("runs")))
    if named and (named != state.get(_NAMED) or "runs" not in state):
        known = [name for name in named if name in found]
        for name in named:
            if name not in found:
                told = f"There is no run '{plain_text(name)}' in this dashboard; it is left out."
                st.warning(told, icon=":material/link_off:")
        if len(known) > _MOST:
            told = f"{len(known)} runs are named; here are the first {_MOST}."
            st.warning(told, icon=":material/link_off:")
        state["runs"] = known[:_MOST]
    state["runs"] = [name for name in state.get("runs", []) if name in found]


def _show_overview(runs: Mapping[str, RunFolder]) -> None:
    """Say of each run in a row what held it up, and what it is where not all are the same."""
    names = [run.summary.get("name") or "" for run in runs.values()]
    lines = ["| run | bottleneck |", "|:---|:---|"]
    for label, run in runs.items():
        missing = explain_missing(run.summary)
        told = run.summary["bottleneck"] + (f". {missing}" if missing else "")
        name = f" ({run.summary['name']})" if len(set(names)) > 1 and run.summary.get("name") else ""
        lines.append(f"| **{plain_text(label)}**{plain_text(name)} | {plain_text(told)} |")
    st.markdown("\n".join(lines))


def _show_settings(runs: Mapping[str, RunFolder]) -> None:
    settings = setting_table(runs)
    st.subheader("Settings that differ")
    if not len(settings):
        st.caption("None: these are runs of the same scenario.")
        return
    height = min(35 * len(settings) + 38, 320)
    show_table(settings.style.apply(_mark_other, axis=1), "settings", height=height)


def _mark_other(row: pd.Series[str]) -> list[str]:
    """Mark the settings that are not the first run's."""
    base = row.iloc[1]
    return ["", "", *("background-color: #d9a52140" if value != base else "" for value in row.iloc[2:])]


def _show_differences(runs: Mapping[str, RunFolder]) -> None:
    """Show a row a figure, changes for the better and for the worse in their colours."""
    st.subheader("Figures")
    st.caption(
        "In brackets the change from the first run, of shares in points of a per cent. Green is better, red "
        "worse; less than 1 % has no colour."
    )
    table = difference_table(runs)
    judged = judge_changes(table)
    colors = {1: f"color: {GOOD}", -1: f"color: {BAD}", 0: ""}
    shown = figure_table(runs)
    names: list[Hashable] = list(judged.columns[1:])
    styled = shown.style.apply(lambda _: judged[names].map(colors.__getitem__), axis=None, subset=names)
    st.dataframe(styled, hide_index=True, width="stretch", height=560)
    offer_csv(lambda: table, "differences")
