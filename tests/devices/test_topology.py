"""Links of groups of ranks, and the graph of a cluster."""

from __future__ import annotations

from itertools import pairwise
from math import inf

import networkx as nx
import pytest

from simserve.devices.topology import Node, build_topology, group_link
from simserve.errors import InputError
from simserve.scenario.catalog import load_hardware


@pytest.mark.parametrize(
    ("hardware", "ranks", "kind", "gb_per_s", "scale_up"),
    [
        ("h100-sxm", 8, "NVLink4", 450, True),
        ("h100-sxm", 16, "network", 50, False),
        ("gb200", 72, "NVLink5 NVL72", 900, True),
        ("l40s", 2, "PCIe4", 32, False),
        ("h100-nvl", 2, "NVLink4 bridge", 300, True),
        ("h100-nvl", 4, "PCIe", 64, False),
    ],
)
def test_link_of_a_group(hardware: str, ranks: int, kind: str, gb_per_s: float, scale_up: bool) -> None:
    link = group_link(load_hardware(hardware), ranks)
    assert (link.kind, link.bytes_per_s, link.scale_up) == (kind, gb_per_s * 1e9, scale_up)


def test_one_rank_has_no_link() -> None:
    assert group_link(load_hardware("l4"), 1).bytes_per_s == inf
    with pytest.raises(InputError, match="at least 1 rank"):
        group_link(load_hardware("l4"), 0)


def widest_path(graph: nx.Graph, source: object, target: object) -> float:
    """Return the rate of the widest path between two vertices: the least of its edges' rates."""
    tree = nx.maximum_spanning_tree(graph, weight="bytes_per_s")
    return float(
        min(tree.edges[edge]["bytes_per_s"] for edge in pairwise(nx.shortest_path(tree, source, target)))
    )


def test_graph_joins_everything_at_the_link_rates() -> None:
    graph = build_topology(Node(load_hardware("h100-sxm"), gpus=8), nodes=2)
    assert sum(vertex[0] == "gpu" for vertex in graph) == 16
    assert sum(vertex[0] == "switch" for vertex in graph) == 2
    assert widest_path(graph, ("gpu", 0, 0), ("gpu", 0, 7)) == 450e9
    # Between hosts a GPU's PCIe is what bounds the path.
    assert widest_path(graph, ("gpu", 0, 0), ("gpu", 1, 0)) == 64e9


def test_pairs_have_a_switch_each_and_a_rack_has_one() -> None:
    pairs = build_topology(Node(load_hardware("h100-nvl"), gpus=4))
    assert sum(vertex[0] == "switch" for vertex in pairs) == 2
    assert widest_path(pairs, ("gpu", 0, 0), ("gpu", 0, 1)) == 300e9
    assert widest_path(pairs, ("gpu", 0, 1), ("gpu", 0, 2)) == 64e9
    rack = build_topology(Node(load_hardware("gb200"), gpus=4), nodes=18)
    assert sum(vertex[0] == "switch" for vertex in rack) == 1
    assert widest_path(rack, ("gpu", 0, 0), ("gpu", 17, 3)) == 900e9
    with pytest.raises(InputError, match="at least one node"):
        build_topology(Node(load_hardware("l4")), nodes=0)
