"""The cluster as a graph: every GPU on one host, instances numbered as in the tables, room for hundreds."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest

from simserve.errors import UnknownNameError
from simserve.report.cluster_figures import draw_cluster, draw_load
from simserve.report.cluster_graph import cluster_graph
from simserve.report.cluster_layout import fold_gpus, place_vertices
from simserve.report.cluster_load import MEASURES, ClusterLoad
from simserve.scenario.loader import load_scenario


def build(*pools: dict[str, Any]) -> Any:
    scenario = {
        "model": "llama-3.1-8b",
        "workload": {"requests": 1, "arrivals": 1, "prompt_tokens": 10, "output_tokens": 1},
        "pools": [
            {"name": f"p{number}", "hardware": "h100-sxm", **pool} for number, pool in enumerate(pools)
        ],
    }
    return cluster_graph(load_scenario(json.dumps(scenario)))


def kinds(graph: Any) -> Counter[str]:
    return Counter(data["kind"] for _, data in graph.nodes(data=True))


def hosts_of(graph: Any, instance: int) -> set[Any]:
    gpus = [gpu for gpu in graph[("instance", instance)] if gpu[0] == "gpu"]
    return {host for gpu in gpus for host in graph[gpu] if host[0] == "host"}


def load_of(instances: int, intervals: int = 4) -> ClusterLoad:
    values = np.linspace(0, 1, instances * intervals).reshape(instances, intervals)
    return ClusterLoad(np.arange(intervals + 1.0), tuple(range(instances)), dict.fromkeys(MEASURES, values))


def test_instances_stand_on_hosts() -> None:
    tensor = {"tensor_parallel_size": 2}
    graph = build({"replicas": 5, "engine": tensor}, {"replicas": 1, "hardware": "l40s"})
    assert kinds(graph) == {
        "router": 1, "pool": 2, "instance": 6, "gpu": 11, "host": 3, "switch": 2, "network": 1,
    }  # fmt: skip
    assert [len(hosts_of(graph, each)) for each in range(6)] == [1] * 6
    assert hosts_of(graph, 4) == {("host", "p0", 1)}
    assert graph.nodes[("instance", 5)]["hardware"] == "l40s"
    rate = graph.edges[("gpu", "p0", 0, 0), ("switch", "p0", 0)]
    assert (rate["kind"], rate["bytes_per_s"]) == ("NVLink4", 450e9)


def test_ranks_are_instances_and_large_ones_have_hosts_of_their_own() -> None:
    graph = build({"replicas": 2, "engine": {"data_parallel_size": 3}})
    assert kinds(graph)["instance"] == 6
    assert graph.nodes[("instance", 4)]["label"] == "instance 4, rank 1"
    graph = build({"replicas": 2, "engine": {"tensor_parallel_size": 8, "pipeline_parallel_size": 2}})
    assert [len(hosts_of(graph, each)) for each in range(2)] == [2, 2]
    assert not hosts_of(graph, 0) & hosts_of(graph, 1)


def test_three_gpus_never_lie_on_two_hosts() -> None:
    graph = build({"replicas": 5, "engine": {"pipeline_parallel_size": 3}})
    assert [len(hosts_of(graph, each)) for each in range(5)] == [1] * 5


@pytest.mark.parametrize(("replicas", "tensor"), [(1, 1), (3, 4), (30, 1), (256, 8)])
def test_everything_has_a_place_of_its_own(replicas: int, tensor: int) -> None:
    graph = fold_gpus(build({"replicas": replicas, "engine": {"tensor_parallel_size": tensor}}))
    places = place_vertices(graph)
    hidden = {"network"} if replicas > 24 else set()
    assert {vertex for vertex in graph if vertex[0] not in hidden} == set(places)
    assert len({(round(x, 6), round(y, 6)) for x, y in places.values()}) == len(places)
    figure = draw_cluster(graph, load_of(replicas), "KV use", 2)
    assert sum(len(trace.x) for trace in figure.data) <= 20_000


@pytest.mark.parametrize(("replicas", "named"), [(24, 0), (64, 64), (256, 64)])
def test_numbers_stand_outside_of_the_ring(replicas: int, named: int) -> None:
    figure = draw_cluster(build({"replicas": replicas}), load_of(replicas), "running", 0)
    numbers = [trace for trace in figure.data if trace.mode == "text"]
    assert sum(len(trace.text) for trace in numbers) == named
    others = [trace for trace in figure.data if trace.mode != "text"]
    widest = max(abs(x) for trace in others for x in trace.x if x is not None)
    for trace in numbers:
        assert len(set(trace.text)) == named
        assert min(np.hypot(trace.x, trace.y)) > widest


def test_colours_are_those_of_the_interval() -> None:
    load = load_of(3)
    figure = draw_cluster(build({"replicas": 3}), load, "running", 1)
    colored = [trace for trace in figure.data if trace.marker.colorscale is not None]
    assert [list(trace.marker.color) for trace in colored] == [load.values["running"][:, 1].tolist()] * 2
    assert list(draw_load(load, "running", 1).data[0].y) == ["0", "1", "2"]
    with pytest.raises(UnknownNameError, match="did you mean 'waiting'"):
        draw_load(load, "wating")
