"""The dashboard's entry: which pages there are. `simserve dashboard` starts it."""

from __future__ import annotations

import streamlit as st

from dashboard.views import cluster, compare, memory, result, roofline, run, sweep, trace

_PAGES = (
    ("Run", run.show, "run", ":material/play_arrow:"),
    ("Result", result.show, "result", ":material/monitoring:"),
    ("Memory", memory.show, "memory", ":material/memory:"),
    ("Cluster", cluster.show, "cluster", ":material/hub:"),
    ("Compare", compare.show, "compare", ":material/compare_arrows:"),
    ("Sweep", sweep.show, "sweep", ":material/grid_on:"),
    ("Roofline", roofline.show, "roofline", ":material/roofing:"),
    ("Trace", trace.show, "trace", ":material/timeline:"),
)


def main() -> None:
    """Show the page that the address names."""
    st.set_page_config(page_title="simserve", page_icon=":material/speed:", layout="wide")
    pages = [
        st.Page(show, title=title, url_path=path, icon=icon, default=path == "run")
        for title, show, path, icon in _PAGES
    ]
    st.navigation(pages).run()


main()
