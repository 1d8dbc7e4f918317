"""The dashboard's process: Streamlit, with what the pages need loaded before the first is asked for."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from importlib import import_module
from threading import Thread

# What opening a result would import: a second that is better spent before there is a page to wait for. Not in
# a thread beside Streamlit's start, which imports pandas too.
_NEEDED = ("pandas", "pyarrow.parquet", "plotly.graph_objects", "plotly.subplots", "simserve.simulation")


def main() -> None:
    """Serve the dashboard; the arguments are Streamlit's."""
    for name in _NEEDED:
        import_module(name)
    # Scenarios are refused that name code; this is the wall behind it.
    import_module("simserve").forbid_imports()
    from streamlit.web.cli import main as serve

    Thread(target=_prepare_pages, daemon=True).start()
    serve(sys.argv[1:], prog_name="streamlit")


def _prepare_pages() -> None:
    """Import the pages and read the run that most of them begin with, while the browser loads its part."""
    from streamlit import runtime

    while not runtime.exists():
        time.sleep(0.01)
    from dashboard.run_view import draw_first_picture
    from dashboard.views import cluster, compare, memory, result, roofline, run, sweep, trace  # noqa: F401
    from simserve import SimserveError

    # What is wrong with it the page will say.
    with suppress(SimserveError, OSError):
        draw_first_picture()


if __name__ == "__main__":
    main()
