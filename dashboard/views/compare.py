"""*Compare*: two to six runs in the same pictures, and what differs between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from dashboard.difference_table import difference_table, setting_table, short_labels
from dashboard.folders import find_runs, roots
from dashboard.plots import format_change, format_figure, page, show_figure, show_table
from dashboard.run_choice import title_points
from dashboard.run_figures import explain_missing
from dashboard.run_view import open_run
from simserve import draw_comparison

if TYPE_CHECKING:
    from collections.abc import Hashable

    import pandas as pd
    from pandas.io.formats.style import Styler

_MOST = 6


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
    st.session_state.setdefault("runs", [name for name in st.query_params.get_all("runs") if name in found])
    titles = title_points(found)
    chosen = st.multiselect(
        "Runs, the first is what the others are compared with", list(found), key="runs",
        max_selections=_MOST, placeholder="Choose two to six",
        format_func=lambda label: titles.get(label, label),
    )  # fmt: skip
    st.query_params["runs"] = chosen
    if len(chosen) < 2:
        st.info("Choose at least two runs.", icon=":material/lightbulb:")
        return
    labels = short_labels(chosen, titles)
    runs = {label: open_run(found[name]) for label, name in zip(labels, chosen, strict=True)}
    named = [f"**{label}**: {run.summary['name']}" for label, run in runs.items() if run.summary.get("name")]
    st.caption("; ".join(named))
    settings = setting_table(runs)
    st.subheader("Settings that differ")
    if len(settings):
        show_table(
            settings.style.apply(_mark_other, axis=1), "settings", height=min(35 * len(settings) + 38, 320)
        )
    else:
        st.caption("None: these are runs of the same scenario.")
    show_figure(draw_comparison(runs, "latencies"), "latencies")
    for label, run in runs.items():
        missing = explain_missing(run.summary)
        if missing:
            st.caption(f"**{label}**: {missing}")
    show_figure(draw_comparison(runs, "load"), "load")
    st.subheader("Figures")
    show_table(_colored(difference_table(runs)), "differences", height=560)
    for label, run in runs.items():
        st.info(f"**{label}**: {run.summary['bottleneck']}", icon=":material/search_insights:")


def _mark_other(row: pd.Series[str]) -> list[str]:
    """Mark the settings that are not the first run's."""
    base = row.iloc[1]
    return ["", "", *("background-color: #d9a52140" if value != base else "" for value in row.iloc[2:])]


def _colored(table: pd.DataFrame) -> Styler:
    """Write numbers short, and large changes in bold."""
    changes: list[Hashable] = [name for name in table.columns if name.endswith("change in %")]
    values: list[Hashable] = [name for name in table.columns[1:] if name not in changes]
    styled = table.style.format(format_figure, subset=values, na_rep="–")
    styled = styled.format(format_change, subset=changes, na_rep="–")
    return styled.map(lambda value: "font-weight: bold" if abs(value) >= 5 else "", subset=changes)
