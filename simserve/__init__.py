"""simserve: a faithful, fast simulator of cluster-scale LLM serving.

The names of `__all__` are the public interface; each is imported when it is first used, so that a command
pays only for what it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from simserve.version import __version__

if TYPE_CHECKING:
    from simserve.data_files import find_file
    from simserve.errors import (
        CapacityError,
        InputError,
        IntegrityError,
        ScenarioError,
        SimserveError,
        SimulationError,
        TraceError,
        UnknownNameError,
    )
    from simserve.metrics.result import Result
    from simserve.registry import forbid_imports, register
    from simserve.report.cluster_figures import draw_cluster, draw_load
    from simserve.report.cluster_graph import cluster_graph
    from simserve.report.cluster_load import ClusterLoad, measure_load
    from simserve.report.compare_figures import draw_comparison
    from simserve.report.comparison import differing_settings
    from simserve.report.latency_figures import distribution_of
    from simserve.report.load_figures import load_series
    from simserve.report.memory_figures import draw_memory
    from simserve.report.memory_rows import memory_rows, prefix_rows
    from simserve.report.roofline import roofline
    from simserve.report.roofline_page import draw_roofline
    from simserve.report.run_figures import draw_run
    from simserve.report.run_folder import RunFolder
    from simserve.report.run_page import write_run_page
    from simserve.report.summary_text import tokens_at_once
    from simserve.report.thinning import thin_distribution, thin_series
    from simserve.scenario.catalog_names import catalog_names
    from simserve.scenario.loader import load_scenario
    from simserve.scenario.schema import Scenario
    from simserve.scenario.workload_build import workload_of
    from simserve.simulation import simulate
    from simserve.study.points import identify
    from simserve.study.sweep_lock import is_sweeping
    from simserve.workload.request import Request, Segment
    from simserve.workload.reuse import ReuseCurve, reuse_curve
    from simserve.workload.statistics import describe_trace
    from simserve.workload.trace import read_trace
    from simserve.workload.workload import Workload

_MODULES = {
    "CapacityError": "simserve.errors",
    "ClusterLoad": "simserve.report.cluster_load",
    "InputError": "simserve.errors",
    "IntegrityError": "simserve.errors",
    "Request": "simserve.workload.request",
    "Result": "simserve.metrics.result",
    "ReuseCurve": "simserve.workload.reuse",
    "RunFolder": "simserve.report.run_folder",
    "Scenario": "simserve.scenario.schema",
    "ScenarioError": "simserve.errors",
    "Segment": "simserve.workload.request",
    "SimserveError": "simserve.errors",
    "SimulationError": "simserve.errors",
    "TraceError": "simserve.errors",
    "UnknownNameError": "simserve.errors",
    "Workload": "simserve.workload.workload",
    "catalog_names": "simserve.scenario.catalog_names",
    "cluster_graph": "simserve.report.cluster_graph",
    "describe_trace": "simserve.workload.statistics",
    "differing_settings": "simserve.report.comparison",
    "distribution_of": "simserve.report.latency_figures",
    "draw_cluster": "simserve.report.cluster_figures",
    "draw_comparison": "simserve.report.compare_figures",
    "draw_load": "simserve.report.cluster_figures",
    "draw_memory": "simserve.report.memory_figures",
    "draw_roofline": "simserve.report.roofline_page",
    "draw_run": "simserve.report.run_figures",
    "find_file": "simserve.data_files",
    "forbid_imports": "simserve.registry",
    "identify": "simserve.study.points",
    "is_sweeping": "simserve.study.sweep_lock",
    "load_scenario": "simserve.scenario.loader",
    "load_series": "simserve.report.load_figures",
    "measure_load": "simserve.report.cluster_load",
    "memory_rows": "simserve.report.memory_rows",
    "prefix_rows": "simserve.report.memory_rows",
    "read_trace": "simserve.workload.trace",
    "register": "simserve.registry",
    "reuse_curve": "simserve.workload.reuse",
    "roofline": "simserve.report.roofline",
    "simulate": "simserve.simulation",
    "thin_distribution": "simserve.report.thinning",
    "thin_series": "simserve.report.thinning",
    "tokens_at_once": "simserve.report.summary_text",
    "workload_of": "simserve.scenario.workload_build",
    "write_run_page": "simserve.report.run_page",
}

__all__ = [
    "CapacityError",
    "ClusterLoad",
    "InputError",
    "IntegrityError",
    "Request",
    "Result",
    "ReuseCurve",
    "RunFolder",
    "Scenario",
    "ScenarioError",
    "Segment",
    "SimserveError",
    "SimulationError",
    "TraceError",
    "UnknownNameError",
    "Workload",
    "__version__",
    "catalog_names",
    "cluster_graph",
    "describe_trace",
    "differing_settings",
    "distribution_of",
    "draw_cluster",
    "draw_comparison",
    "draw_load",
    "draw_memory",
    "draw_roofline",
    "draw_run",
    "find_file",
    "forbid_imports",
    "identify",
    "is_sweeping",
    "load_scenario",
    "load_series",
    "measure_load",
    "memory_rows",
    "prefix_rows",
    "read_trace",
    "register",
    "reuse_curve",
    "roofline",
    "simulate",
    "thin_distribution",
    "thin_series",
    "tokens_at_once",
    "workload_of",
    "write_run_page",
]


def __getattr__(name: str) -> Any:
    """Import a public name on its first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
