"""How accelerators are joined: the link of a group of ranks, and the cluster's links as a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simserve.devices.accelerator import Accelerator
from simserve.errors import InputError

if TYPE_CHECKING:
    import networkx as nx

# One ConnectX-7 NIC a GPU, 400 Gb/s, as in NVIDIA's DGX H100 reference architecture.
NETWORK_BYTES_PER_S = 50e9
# PCIe hosts hold 8 accelerators at most (DGX, HGX and common PCIe servers).
GPUS_PER_NODE = 8


@dataclass(frozen=True, slots=True)
class Link:
    """The slowest link inside a group of ranks.

    Attributes:
        kind: "NVLink4", "PCIe5", "network", ..., or "none" for a single rank.
        bytes_per_s: Rate a direction and rank.
        scale_up: True inside a scale-up domain (NVLink, Infinity Fabric, ICI), where every rank reaches
            every other at that rate.
    """

    kind: str
    bytes_per_s: float
    scale_up: bool


@dataclass(frozen=True, slots=True)
class Node:
    """Accelerators of one host.

    Attributes:
        accelerator: What it holds.
        gpus: How many.
        network_bytes_per_s: Rate to other hosts, a direction and accelerator.
    """

    accelerator: Accelerator
    gpus: int = GPUS_PER_NODE
    network_bytes_per_s: float = NETWORK_BYTES_PER_S


def group_link(accelerator: Accelerator, ranks: int, node: Node | None = None) -> Link:
    """Return the link that bounds collectives of `ranks` neighbouring ranks.

    The scale-up link inside its domain, PCIe inside a host (also for GPUs whose NVLink bridge joins
    fewer than `ranks`), the network beyond.

    Raises:
        InputError: If `ranks` is below 1.
    """
    if ranks < 1:
        raise InputError(f"a group needs at least 1 rank, not {ranks}")
    host = node or Node(accelerator)
    if ranks == 1:
        return Link("none", float("inf"), True)
    if ranks <= accelerator.link_domain:
        return Link(accelerator.link_kind, accelerator.link_bytes_per_s, True)
    if ranks <= host.gpus:
        kind = accelerator.link_kind if accelerator.link_domain == 1 else "PCIe"
        return Link(kind, accelerator.pcie_bytes_per_s, False)
    return Link("network", min(host.network_bytes_per_s, accelerator.pcie_bytes_per_s), False)


def build_topology(node: Node, nodes: int = 1) -> nx.Graph:
    """Build the graph of a cluster: accelerators, scale-up switches, hosts, one network.

    Vertices are ("gpu", node, index), ("switch", domain), ("host", node) and ("network",); every edge
    carries `kind` and `bytes_per_s`, a direction. A scale-up domain larger than a node spans nodes.

    Args:
        node: The nodes' kind.
        nodes: How many of them.

    Raises:
        InputError: If there is no node.
    """
    import networkx as nx

    if nodes < 1 or node.gpus < 1:
        raise InputError("a topology needs at least one node with one accelerator")
    accelerator = node.accelerator
    graph: nx.Graph = nx.Graph()
    for host in range(nodes):
        network_rate = node.network_bytes_per_s * node.gpus
        graph.add_edge(("host", host), ("network",), kind="network", bytes_per_s=network_rate)
        for index in range(node.gpus):
            gpu = ("gpu", host, index)
            graph.add_edge(gpu, ("host", host), kind="PCIe", bytes_per_s=accelerator.pcie_bytes_per_s)
            if accelerator.link_domain > 1:
                switch = ("switch", _domain(node, host, index))
                rate = accelerator.link_bytes_per_s
                graph.add_edge(gpu, switch, kind=accelerator.link_kind, bytes_per_s=rate)
    return graph


def _domain(node: Node, host: int, index: int) -> int:
    """Return the number of the scale-up domain of an accelerator.

    A domain of a node's size or less ends with the node; only a larger one (NVL72) spans nodes.
    """
    size = node.accelerator.link_domain
    if size <= node.gpus:
        return host * -(-node.gpus // size) + index // size
    return host // max(1, size // node.gpus)
