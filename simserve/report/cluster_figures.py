"""Pictures of a cluster: its graph coloured by load at one time, and a map of all instances over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simserve.errors import UnknownNameError
from simserve.report.cluster_layout import MOST_LABELS, fold_gpus, place_numbers, place_vertices
from simserve.report.cluster_load import MEASURES, ClusterLoad
from simserve.report.figure_style import MUTED, SERIES_COLORS

if TYPE_CHECKING:
    import networkx as nx
    import plotly.graph_objects as go

# From nothing (seen on light and on dark grounds) to most.
LOAD_SCALE = [
    [0.0, "rgba(141,153,174,0.25)"], [0.01, "#a9c7ea"], [0.5, "#4c8bd6"], [0.8, "#d9a521"], [1.0, "#d1495b"],
]  # fmt: skip
_SHARES = ("busy share", "KV use")
_SYMBOLS = {"router": "diamond", "pool": "circle", "host": "square", "network": "hexagon2"}
_LINK_COLORS = {"routes": MUTED, "runs on": MUTED, "network": SERIES_COLORS[1], "PCIe": SERIES_COLORS[3]}


def draw_cluster(graph: nx.Graph, load: ClusterLoad, measure: str, interval: int) -> go.Figure:
    """Draw a cluster, its instances and GPUs in the colour of their load in one interval.

    Args:
        graph: Of `cluster_graph`.
        load: Of `measure_load`, of a run on that cluster.
        measure: One of "busy share", "KV use", "running", "waiting" and "tokens/s".
        interval: Which interval of the load.

    Raises:
        UnknownNameError: If there is no such measure.
    """
    import plotly.graph_objects as go

    _check(measure)
    graph = fold_gpus(graph)
    places = place_vertices(graph)
    figure = go.Figure()
    _add_links(figure, graph, places)
    rings = len(load.instances) > MOST_LABELS
    _add_others(figure, graph, places, rings)
    _add_instances(figure, graph, places, load, measure, interval)
    figure.update_xaxes(visible=False).update_yaxes(visible=False)
    if rings:
        _add_numbers(figure, place_numbers(graph, places))
        figure.update_yaxes(scaleanchor="x")
    begin, end = load.edges_s[interval], load.edges_s[interval + 1]
    title = f"{measure}, {begin:,.4g} to {end:,.4g} s"
    legend = {"orientation": "h", "y": 0, "yanchor": "top"}
    return figure.update_layout(title=title, height=640 if rings else 520, legend=legend, hovermode="closest")


def draw_load(load: ClusterLoad, measure: str, interval: int | None = None) -> go.Figure:
    """Draw a map: a row an instance, a column an interval; the given one is marked.

    Raises:
        UnknownNameError: If there is no such measure.
    """
    import plotly.graph_objects as go

    _check(measure)
    middles = (load.edges_s[:-1] + load.edges_s[1:]) / 2
    names = [str(number) for number in load.instances]
    figure = go.Figure(
        go.Heatmap(
            x=middles, y=names, z=load.values[measure], colorscale=LOAD_SCALE,
            zmin=0, zmax=_most(load, measure), colorbar=_color_bar(measure),
            hovertemplate="instance %{y}, %{x:.4g} s: %{z:.3~g}<extra></extra>",
        )
    )  # fmt: skip
    if interval is not None:
        figure.add_vline(x=middles[interval], line_dash="dot", line_color=MUTED)
    figure.update_yaxes(title_text="instance", type="category", autorange="reversed")
    figure.update_xaxes(title_text="s")
    height = min(170 + 22 * len(names), 760)
    return figure.update_layout(title=f"{measure}: {MEASURES[measure]}", height=height)


def _check(measure: str) -> None:
    if measure not in MEASURES:
        raise UnknownNameError("measure", measure, list(MEASURES))


def _most(load: ClusterLoad, measure: str) -> float:
    return 1.0 if measure in _SHARES else max(float(load.values[measure].max(initial=0)), 1e-9)


def _color_bar(measure: str) -> dict[str, Any]:
    return {"tickformat": ".0%"} if measure in _SHARES else {}


def _add_links(figure: go.Figure, graph: nx.Graph, places: dict[Any, tuple[float, float]]) -> None:
    """Add a line a link, those of one kind and rate together."""
    kinds: dict[tuple[str, float], list[tuple[Any, Any]]] = {}
    for one, other, link in graph.edges(data=True):
        if one in places and other in places:
            kinds.setdefault((link["kind"], link.get("bytes_per_s", 0.0)), []).append((one, other))
    for number, ((kind, rate), links) in enumerate(kinds.items()):
        x: list[float | None] = []
        y: list[float | None] = []
        for one, other in links:
            x += [places[one][0], places[other][0], None]
            y += [places[one][1], places[other][1], None]
        line = {
            "color": _LINK_COLORS.get(kind, SERIES_COLORS[2]),
            "width": (1 if kind in ("routes", "PCIe", "runs on") else 2) if len(links) <= 128 else 0.4,
            "dash": "dot" if kind == "routes" and len(links) <= 128 else "solid",
        }
        name = f"{kind}, {rate / 1e9:,.4g} GB/s" if rate else kind
        figure.add_scatter(x=x, y=y, mode="lines", line=line, name=name, hoverinfo="skip", legendrank=number)


def _add_others(
    figure: go.Figure, graph: nx.Graph, places: dict[Any, tuple[float, float]], rings: bool
) -> None:
    """Add what has no load of its own: the router, pools, hosts, switches, the network.

    Around a ring stand the numbers of instances; hosts are named by hovering alone.
    """
    for kind in ("router", "pool", "switch", "host", "network"):
        found = [vertex for vertex in places if graph.nodes[vertex]["kind"] == kind]
        if not found:
            continue
        labels = [graph.nodes[vertex]["label"] for vertex in found]
        # Two spaces keep the text off its mark.
        shown = [f"\N{NO-BREAK SPACE}\N{NO-BREAK SPACE}{label}" for label in labels]
        if len(found) > MOST_LABELS or kind == "switch" or (rings and kind == "host"):
            shown = []
        figure.add_scatter(
            x=[places[vertex][0] for vertex in found], y=[places[vertex][1] for vertex in found],
            mode="markers+text" if shown else "markers", text=shown or None, textposition="middle right",
            hovertext=labels, hoverinfo="text",
            marker={"symbol": _SYMBOLS.get(kind, "line-ew-open"), "size": 7 if kind == "switch" else 13,
                    "color": MUTED},
            showlegend=False,
        )  # fmt: skip


def _add_numbers(figure: go.Figure, numbers: dict[int, tuple[float, float]]) -> None:
    """Add the numbers of instances around their ring."""
    figure.add_scatter(
        x=[x for x, _ in numbers.values()], y=[y for _, y in numbers.values()], mode="text",
        text=[str(number) for number in numbers], textfont={"size": 10}, hoverinfo="skip", showlegend=False,
    )  # fmt: skip


def _add_instances(
    figure: go.Figure,
    graph: nx.Graph,
    places: dict[Any, tuple[float, float]],
    load: ClusterLoad,
    measure: str,
    interval: int,
) -> None:
    """Add instances and their GPUs, coloured by load."""
    row_of = {number: row for row, number in enumerate(load.instances)}
    instances = [vertex for vertex in places if vertex[0] == "instance" and vertex[1] in row_of]
    points: list[tuple[Any, Any]] = [(vertex, vertex) for vertex in instances]
    points += [
        (gpu, vertex) for vertex in instances for gpu in graph[vertex] if gpu[0] == "gpu" and gpu in places
    ]
    told = {
        vertex: "<br>".join(
            f"{name}: {values[row_of[vertex[1]], interval]:.3g}" for name, values in load.values.items()
        )
        for vertex in instances
    }
    few = len(instances) <= MOST_LABELS
    size = 26.0 if few else min(max(1300 / len(instances), 5.0), 20.0)
    for is_gpu in (False, True):
        mine = [(vertex, owner) for vertex, owner in points if (vertex[0] == "gpu") == is_gpu]
        if not mine:
            continue
        figure.add_scatter(
            x=[places[vertex][0] for vertex, _ in mine], y=[places[vertex][1] for vertex, _ in mine],
            mode="markers+text" if few and not is_gpu else "markers",
            text=[str(owner[1]) for _, owner in mine] if few and not is_gpu else None,
            textposition="middle right",
            hovertext=[f"{graph.nodes[vertex]['label']}<br>{told[owner]}" for vertex, owner in mine],
            hoverinfo="text", showlegend=False,
            marker={
                "symbol": "square" if is_gpu else "circle",
                "size": min(9.0, size / 2) if is_gpu else size,
                "color": [load.values[measure][row_of[owner[1]], interval] for _, owner in mine],
                "colorscale": LOAD_SCALE, "cmin": 0, "cmax": _most(load, measure),
                "line": {"width": int(few), "color": MUTED}, "showscale": not is_gpu,
                "colorbar": _color_bar(measure),
            },
        )  # fmt: skip
