"""The roofline as a picture: an HTML file that works without a network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import log10, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simserve.errors import InputError
from simserve.report.roofline_rows import Roofline, RooflineRow, Step

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Markers grow with the square root of an operator's share of the step: area stands for time.
_SMALLEST_MARKER, _LARGEST_MARKER = 6.0, 48.0
# Operators that take less of the step than this are named by hovering alone.
_NAMED_SHARE = 0.03
# What has no point is told from this share of the step on, so many by name.
_APART_SHARE, _MOST_APART = 0.005, 4
# A picture's usual size, and what a name takes of it, in pixels.
_WIDTH, _HEIGHT = 620.0, 410.0
_NAME_WIDTH, _NAME_HEIGHT, _NAME_AWAY = 120.0, 15.0, 34.0
_COLORS = {"compute": "#d1495b", "bandwidth": "#2e86ab", "overhead": "#8d8d8d", "communication": "#edae49"}


def write_page(found: Roofline, path: Path) -> None:
    """Write the roofline and its table to an HTML file; overwrites `path`.

    Raises:
        InputError: If plotly is not installed, or the file cannot be written.
    """
    figure = draw_roofline(found)
    plot = figure.to_html(full_html=False, include_plotlyjs=True)
    title = escape(f"{found.model} on {found.hardware}")
    page = (
        f"<!DOCTYPE html><html><head><meta charset='utf-8'><title>Roofline: {title}</title><style>{_STYLE}"
        f"</style></head><body>{plot}{_table(found)}</body></html>\n"
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write the page: {error.strerror}", file=str(path)) from error


def draw_roofline(found: Roofline) -> go.Figure:
    """Draw the roofs of memory and of each dtype in use, and every operator with FLOPs under them.

    Those without FLOPs (collectives, norms) have no place under a roof; the title says what they take.
    With a what-if the second step stands beside the first: dashed roofs, hollow markers.

    Raises:
        InputError: If plotly is not installed.
    """
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise InputError("a picture needs plotly: pip install 'simserve[dashboard]'") from error
    figure = go.Figure()
    steps = [(found.step, "")] + ([(found.changed, f" ({found.what_if})")] if found.changed else [])
    low, high = _range(steps)
    for step, label in steps:
        for trace in _roofs(step, low, high, label):
            figure.add_trace(go.Scatter(**trace))
        for trace in _operators(step, label):
            figure.add_trace(go.Scatter(**trace))
    for name in _names(found.step, low, high):
        figure.add_annotation(**name)
    options = found.options
    subtitle = (
        f"TP {options['tensor_parallel_size']}, PP {options['pipeline_parallel_size']}; "
        f"{options['batch']} decoding at {options['context']:,} tokens; "
        f"prompt {options['prefill']:,} tokens; step {found.step.step_s * 1e3:.3f} ms"
        f"{_tell_apart(found.step)}"
    )
    figure.update_layout(
        title={"text": f"{found.model} on {found.hardware}<br><sup>{subtitle}</sup>"},
        xaxis={
            "type": "log",
            "title": "arithmetic intensity, FLOP / byte",
            "range": [log10(low), log10(high)],
            "dtick": 1,
        },
        yaxis={"type": "log", "title": "performance, FLOP / s", "dtick": 1, "tickformat": "~s"},
        template="plotly_white",
        height=640,
    )
    return figure


def _range(steps: Sequence[tuple[Step, str]]) -> tuple[float, float]:
    """Return an interval of intensities that holds every operator and every ridge."""
    values = [row.intensity for step, _ in steps for row in step.rows if row.intensity]
    values += [peak / step.bytes_per_s for step, _ in steps for peak in step.roofs.values()]
    # Names stand right of their points.
    return min(values) / 3, max(values) * 12


def _roofs(step: Step, low: float, high: float, label: str) -> list[dict[str, Any]]:
    """One line a peak, of all dtypes that have it: the memory's slope up to the ridge, then the peak."""
    roofs = []
    dtypes: dict[float, list[str]] = {}
    for dtype, peak in step.roofs.items():
        dtypes.setdefault(peak, []).append(dtype)
    for peak, names in dtypes.items():
        ridge = peak / step.bytes_per_s
        roofs.append(
            {
                "x": [low, ridge, high],
                "y": [low * step.bytes_per_s, peak, peak],
                "mode": "lines",
                "line": {"dash": "dash" if label else "solid", "width": 2},
                "name": f"{', '.join(names)} {peak / 1e12:,.4g} TFLOP/s{label}",
                "hoverinfo": "name",
            }
        )
    return roofs


def _operators(step: Step, label: str) -> list[dict[str, Any]]:
    """One trace a bound, so that the legend tells what an operator waits for."""
    traces = []
    for bound, color in _COLORS.items():
        # The small ones on top of the large.
        rows = [row for row in _largest_first(step) if row.bound == bound]
        if rows:
            traces.append(
                {
                    "x": [row.intensity for row in rows],
                    "y": [row.flops_per_s for row in rows],
                    "customdata": [_hover(row) for row in rows],
                    "hovertemplate": "%{customdata}<extra></extra>",
                    "mode": "markers",
                    "marker": {
                        "size": [_size(row) for row in rows],
                        "color": color,
                        "symbol": "circle-open" if label else "circle",
                        "opacity": 0.75,
                    },
                    "name": f"{bound}-bound{label}",
                }
            )
    return traces


def _names(step: Step, low: float, high: float) -> list[dict[str, Any]]:
    """Return the names of the operators that take most of the time, below and right of their points.

    Those of neighbours stand below each other, in the order of their rates, with a line to each.
    """
    rows = [row for row in _largest_first(step) if row.share >= _NAMED_SHARE]
    spots = {row.operator: (log10(row.intensity or low), log10(row.flops_per_s)) for row in rows}
    bottom, top = log10(low * step.bytes_per_s), log10(max(step.roofs.values()))
    scale_x, scale_y = _WIDTH / (log10(high) - log10(low)), _HEIGHT / (top - bottom)
    # From where to where, and how far down, in pixels: what a name must not cover.
    taken = [
        (x * scale_x - _NAME_HEIGHT, x * scale_x + _NAME_HEIGHT, -y * scale_y) for x, y in spots.values()
    ]
    names = []
    for row in sorted(rows, key=lambda row: (-round(spots[row.operator][1], 1), -spots[row.operator][0])):
        x, y = spots[row.operator]
        begin, down = x * scale_x + _NAME_AWAY, -y * scale_y + _NAME_AWAY
        for left, right, other in sorted(taken, key=lambda place: place[2]):
            if left < begin + _NAME_WIDTH and begin < right and abs(other - down) < _NAME_HEIGHT:
                down = other + _NAME_HEIGHT
        taken.append((begin, begin + _NAME_WIDTH, down))
        names.append(
            {
                "x": x, "y": y, "ax": _NAME_AWAY, "ay": down + y * scale_y,
                "text": f"{escape(row.operator)} {row.share:.0%}", "font": {"size": 11},
                "xanchor": "left", "showarrow": True, "arrowhead": 0, "arrowwidth": 1,
                "arrowcolor": _COLORS["overhead"], "standoff": 3,
            }
        )  # fmt: skip
    return names


def _tell_apart(step: Step) -> str:
    """Return a line about the operators that have no point; "" if they take next to nothing."""
    rows = sorted((row for row in step.rows if not row.intensity), key=lambda row: -row.share)
    share = sum(row.share for row in rows)
    if share < _APART_SHARE:
        return ""
    largest = [f"{escape(row.operator)} {row.share:.1%}" for row in rows[:_MOST_APART] if row.share]
    return f"<br>not drawn, without FLOPs: {share:.1%} of the step ({', '.join(largest)})"


def _largest_first(step: Step) -> list[RooflineRow]:
    """Return the operators that have a point, those that take most of the time first."""
    return sorted((row for row in step.rows if row.intensity and row.flops), key=lambda row: -row.share)


def _size(row: RooflineRow) -> float:
    return max(_SMALLEST_MARKER, _LARGEST_MARKER * sqrt(row.share))


def _hover(row: RooflineRow) -> str:
    error = "" if row.error_percent is None else f", error {row.error_percent:.1f} %"
    return (
        f"<b>{escape(row.operator)}</b><br>{row.seconds * 1e6:,.1f} us, {row.share:.1%} of the step<br>"
        f"{row.flops:.3g} FLOPs, {row.moved_bytes:.3g} bytes, {row.flops_per_s / 1e12:,.3g} TFLOP/s<br>"
        f"{_light(row)} of the speed of light<br>{escape(row.tier)}{error}"
    )


def _light(row: RooflineRow) -> str:
    return "-" if row.speed_of_light is None else f"{row.speed_of_light:.0%}"


_STYLE = (
    "body{font-family:sans-serif;margin:1rem}table{border-collapse:collapse;font-size:13px}"
    "td,th{padding:2px 10px;text-align:right;border-bottom:1px solid #ddd}td:first-child{text-align:left}"
)


def _table(found: Roofline) -> str:
    """The same rows as text: what has no FLOPs (collectives) cannot stand in the picture."""
    changed = {row.operator: row for row in found.changed.rows} if found.changed else {}
    headers = ["operator", "launches", "FLOPs", "bytes", "FLOP/byte", "bound", "us"]
    headers += ["what if, us"] if changed else []
    headers += ["share", "of light", "calibration", "error", "source"]
    lines = ["<tr>" + "".join(f"<th>{header}</th>" for header in headers) + "</tr>"]
    for row in found.step.rows:
        intensity = "" if row.intensity is None else f"{row.intensity:.3g}"
        error = "" if row.error_percent is None else f"{row.error_percent:.1f} %"
        cells = [row.operator, f"{row.launches:,}", f"{row.flops:.3g}", f"{row.moved_bytes:.3g}", intensity]
        cells += [row.bound, f"{row.seconds * 1e6:,.1f}"]
        if changed:
            other = changed.get(row.operator)
            cells.append(f"{other.seconds * 1e6:,.1f}" if other else "")
        cells += [f"{row.share:.1%}", _light(row), row.tier, error, row.source]
        lines.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    return "<table>" + "".join(lines) + "</table>"
