"""*Result*: one run, looked at from all sides."""

from __future__ import annotations

import streamlit as st

from dashboard.folders import find_runs, roots
from dashboard.plots import page
from dashboard.run_view import show_run


@page
def show() -> None:
    """Show the page."""
    st.title("Result")
    runs = find_runs()
    if not runs:
        st.info(
            f"There is no run below {', '.join(map(str, roots()))} yet. Make one on the page *Run*, or with "
            "`simserve run quickstart --out out`.",
            icon=":material/lightbulb:",
        )
        return
    wanted = st.query_params.get("run")
    if wanted is not None and wanted not in runs:
        st.warning(f"There is no run {wanted!r} in the folders of this dashboard; here is another.")
        del st.query_params["run"]
    chosen = st.selectbox("Run", list(runs), key="run", bind="query-params", help="Newest first.")
    if chosen is not None:
        show_run(runs[chosen], "result")
