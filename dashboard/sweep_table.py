"""A sweep's results as a table: its axes, its figures, and which points nobody beats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dashboard.folders import label_of
from simserve import InputError

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_BEFORE = ("point", "seed")


def read_sweep(folder: Path) -> pd.DataFrame:
    """Return a sweep's results, a row a point.

    Raises:
        InputError: If they cannot be read, or are no sweep's.
    """
    import pandas as pd
    import pyarrow as pa

    label_of(folder)
    path = folder / "results.parquet"
    try:
        table = pd.read_parquet(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"cannot be read: {error}", file=str(path)) from error
    if not {*_BEFORE, "identity", "status"} <= set(table.columns):
        raise InputError("holds no sweep; expected what `simserve sweep` writes", file=str(folder))
    return table


def axes_of(table: pd.DataFrame) -> list[str]:
    """Return the keys that were swept: the columns before the identity."""
    columns = list(table.columns)
    return [name for name in columns[: columns.index("identity")] if name not in _BEFORE]


def figures_of(table: pd.DataFrame) -> list[str]:
    """Return the figures that have a number for some point."""
    columns = list(table.columns)
    figures = columns[columns.index("status") + 1 :]
    numbers = table[figures].select_dtypes("number")
    return [name for name in numbers.columns if numbers[name].notna().any()]


def best_points(cost: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Return the Pareto front: the rows for which no other has more gain at no more cost.

    Args:
        cost, gain: `[n]`; rows with a NaN are never best.

    Returns:
        Row numbers, in order of cost.
    """
    best, front = -np.inf, []
    for row in np.lexsort((-gain, cost)).tolist():
        if np.isfinite(cost[row]) and gain[row] > best:
            best = gain[row]
            front.append(row)
    return np.array(front, dtype=np.int64)


def draw_heat(table: pd.DataFrame, across: str, down: str, figure_name: str) -> go.Figure:
    """Draw one figure over two axes, the mean over everything else (seeds, further axes)."""
    import plotly.graph_objects as go

    means = table.pivot_table(index=down, columns=across, values=figure_name, aggfunc="mean", sort=False)
    heat = go.Heatmap(
        z=means.to_numpy(), x=[str(each) for each in means.columns], y=[str(each) for each in means.index],
        texttemplate="%{z:.4~g}", colorscale="Cividis", colorbar={"title": None},
    )  # fmt: skip
    figure = go.Figure(heat).update_xaxes(title_text=across, type="category")
    return figure.update_yaxes(title_text=down, type="category").update_layout(title=figure_name, height=420)


def draw_tradeoff(
    table: pd.DataFrame, latency: str, throughput: str, line_of: str, target: float | None
) -> go.Figure:
    """Draw throughput against latency, a curve for each value of one axis, with target and Pareto front."""
    import plotly.graph_objects as go

    from dashboard.plots import COLORS

    figure = go.Figure()
    for number, (value, part) in enumerate(table.groupby(line_of, sort=False)):
        rows = part.sort_values(throughput)
        figure.add_scatter(
            x=rows[throughput], y=rows[latency], mode="lines+markers", name=f"{value}",
            customdata=rows["identity"], line={"color": COLORS[number % len(COLORS)]},
            hovertemplate="%{x:.4~g}, %{y:.4~g}<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    front = best_points(table[latency].to_numpy(float), table[throughput].to_numpy(float))
    figure.add_scatter(
        x=table[throughput].to_numpy()[front], y=table[latency].to_numpy()[front], mode="markers",
        name="nobody is better", marker={"size": 15, "symbol": "circle-open", "color": "#d9a521"},
        customdata=table["identity"].to_numpy()[front], hoverinfo="skip",
    )  # fmt: skip
    if target is not None:
        figure.add_hline(y=target, line_dash="dot", line_color="#d1495b", annotation_text="target")
    figure.update_xaxes(title_text=throughput).update_yaxes(title_text=latency, type="log", dtick="D2")
    legend = {"title": line_of.rpartition(".")[2]}
    return figure.update_layout(title="Throughput against latency", height=480, legend=legend)
