"""The dashboard's process: Streamlit, which loads what the pages need beside its own start."""

from __future__ import annotations

import sys
from importlib import import_module
from threading import Thread

# What opening a result would import first: over a second of a cold start.
_NEEDED = ("pandas", "pyarrow.parquet", "plotly.graph_objects", "plotly.subplots", "simserve.simulation")


def main() -> None:
    """Serve the dashboard; the arguments are Streamlit's."""
    Thread(target=_load, daemon=True).start()
    from streamlit.web.cli import main as serve

    serve(sys.argv[1:], prog_name="streamlit")


def _load() -> None:
    for name in _NEEDED:
        import_module(name)


if __name__ == "__main__":
    main()
