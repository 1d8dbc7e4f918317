"""A measured run and its simulation as a page of plots that works without a network."""

from __future__ import annotations

from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simserve.errors import InputError
from simserve.metrics.columns import Floats
from simserve.study.measured import Latencies
from simserve.study.validate import Validation

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Points of a curve or a scatter: enough for the eye, few enough for the browser.
_MOST_POINTS = 4000
_MOMENTS = 1200
_COLORS = {"measured": "#2b2d42", "simulated": "#d1495b"}
_LATENCIES = ("ttft", "tpot", "e2el")
_STYLE = (
    "body{font-family:sans-serif;margin:1rem}table{border-collapse:collapse;font-size:13px}"
    "td,th{padding:2px 10px;text-align:right;border-bottom:1px solid #ddd}td:first-child{text-align:left}"
    ".off{color:#d1495b}"
)


def check_plotly() -> None:
    """Refuse to go on without plotly. Raises InputError."""
    if find_spec("plotly") is None:
        raise InputError("a page of plots needs plotly: pip install 'simserve[dashboard]'")


def write_page(run: Validation, folder: Path) -> Path:
    """Write `<run>.html` into a folder, which is made if need be, and return its path.

    Raises:
        InputError: If plotly is not installed, or the file cannot be written.
    """
    check_plotly()
    plots = [
        figure.to_html(full_html=False, include_plotlyjs=number == 0)
        for number, figure in enumerate((distributions(run), time_series(run), scatter(run)))
    ]
    title = escape(run.name)
    notes = "".join(f"<li>{escape(note)}</li>" for note in run.notes)
    front_end = f"client and server: {run.front_end_s * 1e3:,.1f} ms in each TTFT and E2EL"
    page = (
        f"<!DOCTYPE html><html><head><meta charset='utf-8'><title>Validation: {title}</title><style>{_STYLE}"
        f"</style></head><body><h1>{title}</h1>{_table(run)}<ul><li>{front_end}</li>{notes}</ul>"
        f"{''.join(plots)}</body></html>\n"
    )
    path = folder / f"{run.name}.html"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write the page: {error.strerror}", file=str(path)) from error
    return path


def distributions(run: Validation) -> go.Figure:
    """Draw the cumulative distributions of TTFT, TPOT and E2EL of both sides."""
    figure = _panels([f"{name.upper()}, s" for name in _LATENCIES])
    for column, name in enumerate(_LATENCIES, start=1):
        for side, latencies in _sides(run).items():
            values = _known(getattr(latencies, f"{name}_s"))
            share = np.linspace(0.0, 1.0, min(len(values), _MOST_POINTS))
            curve = {"x": np.quantile(values, share), "y": share, "mode": "lines"}
            figure.add_scatter(**curve, **_look(side, first=column == 1), row=1, col=column)
    figure.update_layout(title="Cumulative distributions")
    return figure


def time_series(run: Validation) -> go.Figure:
    """Draw, over time, the requests that were sent and have no token yet, and those that have one."""
    figure = _panels(["waiting for the first token", "decoding"])
    last = max(float(np.nanmax(latencies.end_s)) for latencies in _sides(run).values())
    moments = np.linspace(0.0, last, _MOMENTS)
    for side, latencies in _sides(run).items():
        done = ~np.isnan(latencies.e2el_s)
        start = latencies.start_s[done]
        first = start + latencies.ttft_s[done]
        for column, (begin, end) in enumerate(((start, first), (first, latencies.end_s[done])), start=1):
            count = _inside(begin, end, moments)
            line = {"x": moments, "y": count, "mode": "lines", "line_shape": "hv"}
            figure.add_scatter(**line, **_look(side, first=column == 1), row=1, col=column)
    figure.update_layout(title="Requests waiting and running, over time in s")
    return figure


def scatter(run: Validation) -> go.Figure:
    """Draw each request's simulated latency over its measured one."""
    figure = _panels([f"{name.upper()}, s: simulated over measured" for name in _LATENCIES])
    for column, name in enumerate(_LATENCIES, start=1):
        measured, simulated = (getattr(side, f"{name}_s") for side in _sides(run).values())
        step = max(1, len(measured) // _MOST_POINTS)
        points = {"x": measured[::step], "y": simulated[::step], "mode": "markers"}
        look = {"marker": {"size": 4, "opacity": 0.4, "color": _COLORS["simulated"]}, "showlegend": False}
        numbers = np.arange(len(measured))[::step]
        figure.add_scattergl(**points, **look, text=numbers, name="request", row=1, col=column)
        ends = [float(np.nanmin(measured)), float(np.nanmax(measured))]
        equal = {"mode": "lines", "line": {"color": "#8d8d8d", "dash": "dash"}, "name": "equal"}
        figure.add_scatter(x=ends, y=ends, **equal, showlegend=column == 1, row=1, col=column)
    figure.update_layout(title="Requests")
    return figure


def _sides(run: Validation) -> dict[str, Latencies]:
    return {"measured": run.measured.latencies, "simulated": run.served.latencies}


def _panels(titles: list[str]) -> go.Figure:
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=1, cols=len(titles), subplot_titles=titles)
    figure.update_layout(template="plotly_white", height=420)
    return figure


def _look(side: str, *, first: bool) -> dict[str, Any]:
    return {"name": side, "legendgroup": side, "showlegend": first, "line_color": _COLORS[side]}


def _known(values: Floats) -> Floats:
    return values[~np.isnan(values)]


def _inside(begin: Floats, end: Floats, moments: Floats) -> Floats:
    """Return `[len(moments)]` how many intervals hold each moment."""
    begun = np.searchsorted(np.sort(begin), moments, side="right")
    over = np.searchsorted(np.sort(end), moments, side="right")
    return np.asarray(begun - over, dtype=np.float64)


def _table(run: Validation) -> str:
    """The figures of the run as text, under their names in the JSON."""
    lines = ["<tr><th></th><th>measured</th><th>simulated</th><th>error</th><th>bound</th></tr>"]
    for name, figure in run.figures().items():
        error = "" if figure.error_percent is None else f"{figure.error_percent:+.1f} %"
        cells = ["" if value is None else f"{value:,.4f}" for value in (figure.measured, figure.simulated)]
        style = " class='off'" if figure.holds is False else ""
        row = "".join(f"<td>{cell}</td>" for cell in (name, *cells, error, f"{figure.bound.percent:g} %"))
        lines.append(f"<tr{style}>{row}</tr>")
    return "<table>" + "".join(lines) + "</table>"
