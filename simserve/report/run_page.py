"""A run as one page that works without a network: its figures, pictures and scenario."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simserve.errors import InputError
from simserve.metrics.writer import SCENARIO
from simserve.report.cluster_figures import draw_load
from simserve.report.cluster_load import measure_load
from simserve.report.figure_style import style
from simserve.report.memory_figures import MEMORY_FIGURES, draw_memory
from simserve.report.memory_rows import prefix_rows
from simserve.report.run_figures import FIGURES
from simserve.report.run_folder import RunFolder
from simserve.report.table import format_number
from simserve.report.validation_page import check_plotly

if TYPE_CHECKING:
    import plotly.graph_objects as go

_STYLE = (
    "body{font-family:sans-serif;margin:1rem auto;max-width:1200px;padding:0 1rem}"
    "table{border-collapse:collapse;font-size:14px}td,th{padding:3px 12px;text-align:right;"
    "border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}"
    "pre{background:#f4f4f6;padding:1rem;font-size:12px;overflow:auto}"
)
_LATENCIES = ("ttft", "tpot", "itl", "e2el")
_STATISTICS = ("mean", "median", "p90", "p95", "p99")
_FIGURES = (
    "completed", "failed", "unfinished", "duration", "request_throughput", "output_throughput",
    "total_token_throughput", "request_goodput", "slo_attainment", "preemptions", "prefix_cache_hit_rate",
    "kv_cache_peak_usage", "energy_j", "cost_usd",
)  # fmt: skip
_PREFIX_COLUMNS = {
    "stream": "stream", "prefix_tokens": "ends at token", "requests": "requests",
    "saved_tokens": "tokens saved", "held_instances": "instances that hold it",
}  # fmt: skip
_MOST_PREFIXES = 12
# Cells of a map of instances over time.
_MOST_CELLS = 20_000


def write_run_page(run: RunFolder, path: Path) -> None:
    """Write the page.

    Raises:
        InputError: If plotly is not installed.
    """
    check_plotly()
    plots = [
        # Names in the page's order, not random ones: the same run gives the same bytes.
        style(figure).to_html(full_html=False, include_plotlyjs=not number, div_id=f"figure-{number}")
        for number, figure in enumerate(_pictures(run))
    ]
    title = escape(str(run.summary["name"]) or "simserve run")
    page = (
        f"<!DOCTYPE html><html><head><meta charset='utf-8'><title>{title}</title><style>{_STYLE}</style>"
        f"</head><body><h1>{title}</h1><p>{escape(str(run.summary['bottleneck']))}</p>"
        f"{_figures(run.summary)}{_latencies(run.summary)}{_notes(run.summary)}{''.join(plots)}"
        f"{_prefixes(run)}"
        f"<h2>Scenario</h2><pre>{escape((run.path / SCENARIO).read_text(encoding='utf-8'))}</pre>"
        "</body></html>\n"
    )
    path.write_text(page, encoding="utf-8")


def _draw(draw: Callable[..., go.Figure], run: RunFolder) -> go.Figure:
    """Return a picture, or why there is none: a run of an earlier version lacks some files."""
    import plotly.graph_objects as go

    try:
        return draw(run)
    except InputError as error:
        title = f"{draw.__name__.replace('_', ' ')}: {escape(error.message)}"
        return go.Figure().update_layout(title=title, height=160)


def _pictures(run: RunFolder) -> Iterator[go.Figure]:
    """Yield all pictures of a run, the memory's and those of several instances where there are any."""
    for draw in FIGURES:
        yield _draw(draw, run)
    if run.instances:
        for picture in MEMORY_FIGURES:
            figure = draw_memory(run, picture)
            if any(len(trace.x) for trace in figure.data):
                yield figure
    if len(run.instances) > 1:
        load = measure_load(run, _MOST_CELLS // len(run.instances) if len(run.instances) > 100 else 200)
        for measure in ("busy share", "KV use"):
            yield draw_load(load, measure)


def _prefixes(run: RunFolder) -> str:
    """Return the table of the prefixes that saved the most."""
    rows = prefix_rows(run)[:_MOST_PREFIXES]
    if not rows:
        return ""
    head = "".join(f"<th>{name}</th>" for name in _PREFIX_COLUMNS.values())
    body = "".join(
        "<tr>" + "".join(f"<td>{format_number(row[key])}</td>" for key in _PREFIX_COLUMNS) + "</tr>"
        for row in rows
    )
    return f"<h2>Shared prefixes</h2><table><tr>{head}</tr>{body}</table>"


def _figures(summary: Any) -> str:
    rows = [(key.replace("_", " "), format_number(summary[key])) for key in _FIGURES]
    return "<table>" + "".join(f"<tr><td>{key}</td><td>{value}</td></tr>" for key, value in rows) + "</table>"


def _latencies(summary: Any) -> str:
    head = "".join(f"<th>{name}</th>" for name in ("ms", *_STATISTICS))
    rows = "".join(
        f"<tr><td>{name.upper()}</td>"
        + "".join(f"<td>{format_number(summary[f'{kind}_{name}_ms'])}</td>" for kind in _STATISTICS)
        + "</tr>"
        for name in _LATENCIES
    )
    return f"<h2>Latencies</h2><table><tr>{head}</tr>{rows}</table>"


def _notes(summary: Any) -> str:
    calibration = summary["calibration"] or {}
    error = calibration.get("error_percent")
    stated = "" if error is None else f", stated error {error:.0f} %"
    notes = [
        f"Step times: {calibration.get('tier')}, {calibration.get('source')}{stated}",
        *summary["warnings"],
        f"simserve {summary['simserve_version']}, seed {summary['seed']}",
    ]
    return "<ul>" + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ul>"
