"""*Result*: one run, looked at from all sides."""

from __future__ import annotations

import streamlit as st

from dashboard.plots import page
from dashboard.run_choice import choose_run
from dashboard.run_view import show_run


@page
def show() -> None:
    """Show the page."""
    st.title("Result")
    folder = choose_run("result")
    if folder is not None:
        show_run(folder, "result")
