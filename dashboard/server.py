"""The dashboard's process: Streamlit, with what the pages need loaded before the first is asked for."""

from __future__ import annotations

import sys
from importlib import import_module

# What opening a result would import: a second that is better spent before there is a page to wait for. Not in
# a thread beside Streamlit's start, which imports pandas too.
_NEEDED = ("pandas", "pyarrow.parquet", "plotly.graph_objects", "plotly.subplots", "simserve.simulation")


def main() -> None:
    """Serve the dashboard; the arguments are Streamlit's."""
    for name in _NEEDED:
        import_module(name)
    from streamlit.web.cli import main as serve

    serve(sys.argv[1:], prog_name="streamlit")


if __name__ == "__main__":
    main()
