"""The dashboard's entry: which pages there are. `simserve dashboard` starts it."""

from __future__ import annotations

import streamlit as st

from dashboard.views import cluster, compare, memory, result, roofline, run, sweep, trace

# A gauge. Streamlit would fetch an icon by name from a server elsewhere.
_ICON = (
    '<svg viewBox="0 0 24 24" fill="none" stroke="#4c8bd6" stroke-width="3" stroke-linecap="round">'
    '<path d="M4 18a9 9 0 1 1 16 0"/><path d="M12 15l4-6" stroke="#e07a5f"/></svg>'
)
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
    st.set_page_config(page_title="simserve", page_icon=_ICON, layout="wide")
    pages = [
        st.Page(show, title=title, url_path=path, icon=icon, default=path == "run")
        for title, show, path, icon in _PAGES
    ]
    st.navigation(pages).run()


main()
