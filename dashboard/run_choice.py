"""Which run a page shows: the one that the address names, or another of the dashboard's folders."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboard.folders import find_runs, roots


def choose_run() -> Path | None:
    """Ask for a run, and return its folder; without any, say how to make one."""
    runs = find_runs()
    if not runs:
        st.info(
            f"There is no run below {', '.join(map(str, roots()))} yet. Make one on the page *Run*, or with "
            "`simserve run quickstart --out out`.",
            icon=":material/lightbulb:",
        )
        return None
    wanted = st.query_params.get("run")
    if wanted is not None and wanted not in runs:
        st.warning(f"There is no run {wanted!r} in the folders of this dashboard; here is another.")
        del st.query_params["run"]
    chosen = st.selectbox("Run", list(runs), key="run", bind="query-params", help="Newest first.")
    return None if chosen is None else runs[chosen]
