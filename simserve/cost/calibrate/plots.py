"""Plots of measured against predicted times and of residuals by size: one HTML file, without a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simserve.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from simserve.cost.calibrate.checking import Checked

# Points drawn of one operator on one accelerator; more only make the file large.
MAX_POINTS = 1500
_SERIES = ["op", "hardware", "dtype"]


def require_plotly() -> Any:
    """Return the plotting library.

    Raises:
        InputError: If it is not installed; says how to install it.
    """
    try:
        import plotly.graph_objects as graphs
    except ImportError as error:
        raise InputError("plots need plotly: pip install 'simserve[calibrate]'") from error
    return graphs


class PlotData:
    """Points to draw, thinned evenly."""

    def __init__(self, is_wanted: Callable[[str], bool] = lambda hardware: True) -> None:
        """Start without points.

        Args:
            is_wanted: Whether a table's `hardware` is to be drawn.
        """
        self.is_wanted = is_wanted
        self.parts: list[tuple[str, pd.DataFrame]] = []

    def add(self, checked: Checked) -> None:
        """Keep some points of a table's rows."""
        rows = checked.rows[checked.rows["measured_s"].notna() & checked.rows["predicted_s"].notna()]
        wanted = {name for name in rows["hardware"].unique() if self.is_wanted(str(name))}
        rows = rows[rows["hardware"].isin(wanted)]
        for key, part in rows.groupby(_SERIES, observed=True, sort=True):
            step = -(-len(part) // MAX_POINTS)
            label = ", ".join(str(value) for value in key)
            self.parts.append((label, part.sort_values("measured_s", kind="stable").iloc[::step]))

    def write(self, file: str) -> None:
        """Write the figures: measured against predicted, and the residual by measured time.

        Raises:
            InputError: If the file cannot be written.
        """
        graphs = require_plotly()
        both, residual = graphs.Figure(), graphs.Figure()
        for label, part in self.parts:
            measured = part["measured_s"].to_numpy(np.float64) * 1e6
            predicted = part["predicted_s"].to_numpy(np.float64) * 1e6
            texts = (part["shape"].astype(str) + ", " + part["split"].astype(str)).tolist()
            style = {"mode": "markers", "marker": {"size": 4, "opacity": 0.6}, "name": label, "text": texts}
            both.add_trace(graphs.Scattergl(x=measured, y=predicted, **style))
            residual.add_trace(graphs.Scattergl(x=measured, y=(predicted / measured - 1) * 100, **style))
        _label(both, "Predicted against measured time", "predicted, us")
        both.update_yaxes(type="log")
        _label(residual, "Residual by size", "predicted over measured - 1, %")
        try:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            Path(file).write_text(_page(both, residual), encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot be written: {error.strerror}", file=file) from error


def _label(figure: Any, title: str, vertical: str) -> None:
    figure.update_layout(title=title, xaxis_title="measured, us", yaxis_title=vertical, height=640)
    figure.update_xaxes(type="log")


def _page(first: Any, second: Any) -> str:
    """One page of both figures; the library is inside, once."""
    top = first.to_html(full_html=False, include_plotlyjs=True, div_id="measured-predicted")
    bottom = second.to_html(full_html=False, include_plotlyjs=False, div_id="residuals")
    head = (
        "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><title>simserve calibrate</title></head>"
    )
    return f"{head}<body>{top}{bottom}</body></html>\n"
