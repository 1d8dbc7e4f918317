"""Pictures of a run's memory: what fills a GPU, KV blocks over time, what fragmentation takes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simserve.errors import UnknownNameError
from simserve.report.figure_style import MOST_POINTS, MUTED, stack_panels
from simserve.report.memory_rows import (
    FILLINGS,
    KV_PEAK,
    KV_REST,
    OTHERS,
    UNUSED,
    block_series,
    last_block_waste,
    memory_rows,
    region_rows,
)
from simserve.report.run_folder import Column, Floats, Ints, RunFolder
from simserve.report.thinning import thin_series

if TYPE_CHECKING:
    import plotly.graph_objects as go

_GIB = 2**30
_USED, _CACHED, _FREE = "#e07a5f", "#4c8bd6", "rgba(141,153,174,0.35)"
_COLORS = {
    "weights": "#6a4c93", "activations": "#b5485f", "runtime": "#8d99ae", "CUDA graphs": "#bc6c25",
    KV_PEAK: _USED, KV_REST: _CACHED, UNUSED: _FREE, OTHERS: "rgba(141,153,174,0.15)",
}  # fmt: skip
# Columns of kv_memory.parquet, what they mean, and their colours.
_REGIONS = {
    "used_tokens": ("used", _USED),
    "later_tokens": ("reserved for later", "#d9a521"),
    "unused_tokens": ("reserved, never used (internal)", "#b5485f"),
    "rounded_tokens": ("rounded up", "#6a4c93"),
    "scattered": ("free, outside the largest hole (external)", _CACHED),
    "largest_hole_tokens": ("free in one piece", _FREE),
}
# Smallest shares of a GPU that make a bar, and one that has room for its size.
_VISIBLE_SHARE, _LEGIBLE_SHARE = 0.001, 0.05


def memory_fill(run: RunFolder, instance: int | None = None) -> go.Figure:
    """Draw what fills the fullest GPU of each pool."""
    import plotly.graph_objects as go

    figure = go.Figure()
    rows = memory_rows(run)
    pools = list(dict.fromkeys(row["pool"] for row in rows))
    for name in FILLINGS:
        mine = [row for row in rows if row["item"] == name]
        if all(row["share"] < _VISIBLE_SHARE for row in mine):
            continue
        sizes = [row["bytes"] / _GIB for row in mine]
        text = [f"{row['bytes'] / _GIB:.1f}" if row["share"] >= _LEGIBLE_SHARE else "" for row in mine]
        figure.add_bar(
            x=sizes, y=[row["pool"] for row in mine], orientation="h", name=name, text=text,
            textposition="inside", insidetextanchor="middle", textangle=0,
            marker={"color": _COLORS[name]}, hovertemplate="%{x:.2f} GiB of %{y}",
            insidetextfont={"color": MUTED if name in (UNUSED, OTHERS) else "white"},
        )  # fmt: skip
    figure.update_yaxes(autorange="reversed", type="category", automargin=True)
    figure.update_xaxes(title_text="GiB")
    legend = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "traceorder": "normal"}
    height = 190 + 46 * max(len(pools), 1)
    return figure.update_layout(barmode="stack", title="One GPU", height=height, legend=legend, bargap=0.3)


def kv_blocks(run: RunFolder, instance: int | None = None) -> go.Figure:
    """Draw KV blocks that requests hold, that only keep a prefix, and that are free, over time."""
    x, used, cached, total = block_series(run, instance)
    rows = _kept_rows(MOST_POINTS // 6, used, cached)
    figure = stack_panels([""], None, 360)
    parts = (
        ("held by requests", used, _USED),
        ("cached", cached, _CACHED),
        ("free", total - used - cached, _FREE),
    )
    for name, values, color in parts:
        _add_area(figure, x[rows], values[rows], name, color)
    legend = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "traceorder": "normal"}
    return figure.update_layout(title=f"KV blocks, {_name(run, instance)}", legend=legend)


def fragmentation(run: RunFolder, instance: int | None = None) -> go.Figure:
    """Draw what of the KV memory no request can use: of regions in one piece, or of blocks' last tokens."""
    numbers = run.instances if instance is None else [instance]
    regions = region_rows(run, numbers[0]) if numbers else None
    if regions is not None and len(regions["time_s"]):
        return _regions_over_time(regions, numbers[0])
    figure = stack_panels([""], None, 300)
    x, shares = last_block_waste(run, numbers)
    figure.add_scatter(x=x, y=shares, mode="lines", line={"width": 1, "color": _USED}, showlegend=False)
    figure.update_yaxes(tickformat=".1%", rangemode="tozero")
    return figure.update_layout(title=f"Empty places in last blocks, of those in use, {_name(run, instance)}")


def _regions_over_time(regions: dict[str, Column], number: int) -> go.Figure:
    columns = regions | {"scattered": regions["free_tokens"] - regions["largest_hole_tokens"]}
    rows = _kept_rows(
        MOST_POINTS // 18, columns["used_tokens"], columns["unused_tokens"], columns["scattered"]
    )
    figure = stack_panels([""], None, 380)
    for column, (name, color) in _REGIONS.items():
        _add_area(figure, columns["time_s"][rows], columns[column][rows], name, color)
    legend = {"traceorder": "reversed"}
    return figure.update_layout(title=f"Places for tokens, instance {number}", legend=legend)


def _name(run: RunFolder, instance: int | None) -> str:
    if instance is None and len(run.instances) > 1:
        return f"{len(run.instances)} instances together"
    return f"instance {run.instances[0] if instance is None else instance}"


def _add_area(figure: go.Figure, x: Floats, y: Column, name: str, color: str) -> None:
    figure.add_scatter(
        x=x, y=y, mode="lines", line={"width": 0, "shape": "hv"}, stackgroup="all", name=name,
        fillcolor=color, hovertemplate="%{y:,}",
    )  # fmt: skip


def _kept_rows(most: int, *columns: Column) -> Ints:
    """Return the rows at which any column has a spike, or begins or ends a part: `most` for each column."""
    places = np.arange(len(columns[0]), dtype=np.float64)
    kept = [thin_series(places, column, most)[0] for column in columns]
    return np.unique(np.concatenate(kept)).astype(np.int64)


MEMORY_FIGURES = {draw.__name__: draw for draw in (memory_fill, kv_blocks, fragmentation)}


def draw_memory(run: RunFolder, picture: str, instance: int | None = None) -> go.Figure:
    """Draw one picture of a run's memory, of at most 20,000 points.

    Args:
        run: The folder of a run.
        picture: "memory_fill", "kv_blocks" or "fragmentation".
        instance: Which one; None: all together. Regions in one piece are those of the first then.

    Raises:
        UnknownNameError: If there is no such picture.
        InputError: If a table of the run cannot be read.
    """
    if picture not in MEMORY_FIGURES:
        raise UnknownNameError("picture", picture, list(MEMORY_FIGURES))
    return MEMORY_FIGURES[picture](run, instance)
