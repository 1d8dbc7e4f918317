"""Where a cluster's vertices stand in a picture: in rows from the router down to the network, or in rings."""

from __future__ import annotations

from math import cos, pi, sin
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import networkx as nx

# More instances than this stand in rings, their numbers outside; more GPUs than this are left out.
MOST_LABELS = 24
_MOST_GPUS = 128
_ROWS = {"router": 0.0, "pool": 1.0, "instance": 2.0, "gpu": 3.0, "switch": 3.5, "host": 4.0, "network": 5.0}
_WITHOUT_GPUS = {**_ROWS, "host": 3.0, "network": 4.0}
# Numbers of instances that have room around a ring, outside of all else, and how far out they stand.
_MOST_NUMBERS, _NUMBERS = 72, 2.65
# Distances from the middle: instances have most of the room.
_RINGS = {"router": 0.0, "pool": 0.9, "instance": 2.0, "gpu": 2.2, "switch": 2.3, "host": 2.4}


def fold_gpus(graph: nx.Graph) -> nx.Graph:
    """Return the graph as it is, or if its GPUs are too many without them: instances run on hosts."""
    gpus = [vertex for vertex in graph if vertex[0] == "gpu"]
    if len(gpus) <= _MOST_GPUS:
        return graph
    folded = graph.copy()
    for gpu in gpus:
        hosts = [other for other in graph[gpu] if other[0] == "host"]
        owners = [other for other in graph[gpu] if other[0] == "instance"]
        folded.add_edges_from([(one, other) for one in owners for other in hosts], kind="runs on")
    folded.remove_nodes_from([vertex for vertex in graph if vertex[0] in ("gpu", "switch")])
    return folded


def place_vertices(graph: nx.Graph) -> dict[Any, tuple[float, float]]:
    """Return the place of each vertex.

    Leaves (GPUs, or instances where those are folded) stand side by side in their order; everything else in
    the middle of what belongs to it, so that lines do not cross.

    Args:
        graph: Of `fold_gpus`.
    """
    by_kind: dict[str, list[Any]] = {kind: [] for kind in _ROWS}
    for vertex, data in graph.nodes(data=True):
        by_kind[data["kind"]].append(vertex)
    instances = by_kind["instance"]
    gpus = [gpu for each in instances for gpu in graph[each] if gpu[0] == "gpu"]
    leaves = gpus or instances
    at = {leaf: float(place) for place, leaf in enumerate(leaves)}
    _center(graph, instances, "gpu", at)
    _center(graph, by_kind["switch"], "gpu", at)
    _center(graph, by_kind["host"], "gpu" if gpus else "instance", at)
    _center(graph, by_kind["pool"], "instance", at)
    _center(graph, by_kind["router"], "pool", at)
    rings = len(instances) > MOST_LABELS
    if not rings:  # in rings the router is in the middle
        _center(graph, by_kind["network"], "host", at)
    rows = _RINGS if rings else _ROWS if gpus else _WITHOUT_GPUS
    points = {vertex: (x, rows[graph.nodes[vertex]["kind"]]) for vertex, x in at.items()}
    if not rings:
        return {vertex: (x, -row) for vertex, (x, row) in points.items()}
    places = {vertex: _on_ring(x, row, len(leaves)) for vertex, (x, row) in points.items()}
    if len(by_kind["pool"]) == 1:  # then the pool is in the middle, and the router above it
        places |= {by_kind["pool"][0]: (0.0, 0.0), by_kind["router"][0]: (0.0, 0.5)}
    return places


def place_numbers(graph: nx.Graph, places: dict[Any, tuple[float, float]]) -> dict[int, tuple[float, float]]:
    """Return where the numbers of instances stand around their ring, of very many those of every few.

    Args:
        graph: Of `fold_gpus`.
        places: Of `place_vertices`.
    """
    instances = [vertex for vertex, data in graph.nodes(data=True) if data["kind"] == "instance"]
    every = -(-len(instances) // _MOST_NUMBERS)
    away = _NUMBERS / _RINGS["instance"]
    found = {vertex[1]: places[vertex] for vertex in instances[::every] if vertex in places}
    return {number: (x * away, y * away) for number, (x, y) in found.items()}


def _center(graph: nx.Graph, vertices: list[Any], kind: str, at: dict[Any, float]) -> None:
    """Put vertices into the middle of their neighbours of a kind."""
    for vertex in vertices:
        places = [at[other] for other in graph[vertex] if other[0] == kind]
        if places:
            at[vertex] = sum(places) / len(places)


def _on_ring(x: float, row: float, leaves: int) -> tuple[float, float]:
    angle = 2 * pi * x / max(leaves, 1)
    return row * sin(angle), row * cos(angle)
