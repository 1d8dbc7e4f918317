"""A scenario's cluster as a graph: the router, pools, instances, and the GPUs, hosts and links under them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simserve.devices.accelerator import Accelerator
from simserve.devices.topology import GPUS_PER_NODE, Node, build_topology
from simserve.scenario.catalog import load_hardware
from simserve.scenario.schema import Pool, Scenario

if TYPE_CHECKING:
    import networkx as nx

ROUTER, NETWORK = ("router",), ("network",)


def cluster_graph(scenario: Scenario) -> nx.Graph:
    """Return the cluster that a scenario describes.

    Vertices are ("router",), ("pool", name), ("instance", number), ("gpu", pool, host, index),
    ("switch", pool, domain), ("host", pool, host) and ("network",); each has `kind` (the first of it) and
    `label`. An edge has `kind`: "routes", "runs on", or that of a link with `bytes_per_s`, a direction.
    Instances are numbered as in the tables of a run: each data-parallel rank is one.

    Hosts are full before the next begins; an instance that fits into one never lies on two, a larger one has
    hosts of its own. A pool shares no host with another.

    Raises:
        InputError: If hardware that the scenario names is not there.
    """
    import networkx as nx

    graph: nx.Graph = nx.Graph()
    graph.add_node(ROUTER, kind="router", label=f"router, {scenario.router.policy}")
    number = 0
    for pool in scenario.pools:
        accelerator = load_hardware(pool.hardware, scenario.folder)
        number = _add_pool(graph, pool, accelerator, number)
    return graph


def _add_pool(graph: nx.Graph, pool: Pool, accelerator: Accelerator, number: int) -> int:
    """Add a pool whose first instance has a number; return that of the next pool's first."""
    engine = pool.engine
    gpus = engine.tensor_parallel_size * engine.pipeline_parallel_size
    places = _places(pool.replicas * engine.data_parallel_size, gpus)
    vertex = ("pool", pool.name)
    graph.add_node(vertex, kind="pool", label=pool.name)
    graph.add_edge(ROUTER, vertex, kind="routes")
    _add_hosts(graph, pool.name, accelerator, 1 + places[-1][-1][0])
    for offset, mine in enumerate(places):
        instance = ("instance", number + offset)
        label = f"instance {number + offset}"
        if engine.data_parallel_size > 1:
            label += f", rank {offset % engine.data_parallel_size}"
        graph.add_node(instance, kind="instance", label=label, pool=pool.name, hardware=accelerator.name)
        graph.add_edge(vertex, instance, kind="routes")
        for place in mine:
            graph.add_edge(instance, ("gpu", pool.name, *place), kind="runs on")
    idle = [
        vertex
        for vertex in graph
        if vertex[0] == "gpu" and vertex[1] == pool.name and not _has_instance(graph, vertex)
    ]
    graph.remove_nodes_from(idle)
    return number + len(places)


def _places(instances: int, gpus: int) -> list[list[tuple[int, int]]]:
    """Return the (host, index) of each instance's GPUs."""
    if gpus > GPUS_PER_NODE:
        hosts = -(-gpus // GPUS_PER_NODE)
        return [
            [(each * hosts + gpu // GPUS_PER_NODE, gpu % GPUS_PER_NODE) for gpu in range(gpus)]
            for each in range(instances)
        ]
    fit = GPUS_PER_NODE // gpus
    return [[(each // fit, each % fit * gpus + gpu) for gpu in range(gpus)] for each in range(instances)]


def _add_hosts(graph: nx.Graph, pool: str, accelerator: Accelerator, hosts: int) -> None:
    """Add a pool's hosts as `devices.topology` joins them, on one network with all others."""
    topology = build_topology(Node(accelerator), hosts)
    labels = {"gpu": accelerator.name, "switch": accelerator.link_kind, "network": "network"}

    def name(vertex: Any) -> Any:
        return vertex if vertex == NETWORK else (vertex[0], pool, *vertex[1:])

    for vertex in topology:
        kind = vertex[0]
        label = f"host {vertex[1]} of {pool}" if kind == "host" else labels[kind]
        graph.add_node(name(vertex), kind=kind, label=label, pool=None if kind == "network" else pool)
    for one, other, link in topology.edges(data=True):
        graph.add_edge(name(one), name(other), **link)


def _has_instance(graph: nx.Graph, gpu: Any) -> bool:
    return any(other[0] == "instance" for other in graph[gpu])
