"""Which run a page shows: the one that the address names, or was shown last, or another of the folders."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboard.folders import find_runs, roots

# The run that was shown last, and on which page.
_LAST, _PAGE = "last-run", "last-run-page"


def choose_run(page: str) -> Path | None:
    """Ask for a run, and return its folder; without any, say how to make one.

    Args:
        page: The page's name: whoever turns to another page goes on with the same run.
    """
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
    elif wanted is None and st.session_state.get(_PAGE) != page and st.session_state.get(_LAST) in runs:
        st.session_state["run"] = st.query_params["run"] = st.session_state[_LAST]
    chosen = st.selectbox("Run", list(runs), key="run", bind="query-params", help="Newest first.")
    st.session_state[_LAST], st.session_state[_PAGE] = chosen, page
    return None if chosen is None else runs[chosen]
