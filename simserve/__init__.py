"""simserve: a faithful, fast simulator of cluster-scale LLM serving.

The names of `__all__` are the public interface; each is imported when it is first used, so that a command
pays only for what it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

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
    from simserve.registry import register
    from simserve.report.roofline import roofline
    from simserve.report.roofline_page import draw_roofline
    from simserve.report.run_figures import draw_run
    from simserve.report.run_folder import RunFolder
    from simserve.report.run_page import write_run_page
    from simserve.report.thinning import thin_distribution, thin_series
    from simserve.scenario.catalog_names import catalog_names
    from simserve.scenario.loader import load_scenario
    from simserve.scenario.schema import Scenario
    from simserve.simulation import simulate
    from simserve.study.points import identify
    from simserve.workload.request import Request, Segment
    from simserve.workload.statistics import describe_trace
    from simserve.workload.trace import read_trace
    from simserve.workload.workload import Workload

_MODULES = {
    "CapacityError": "simserve.errors",
    "InputError": "simserve.errors",
    "IntegrityError": "simserve.errors",
    "Request": "simserve.workload.request",
    "Result": "simserve.metrics.result",
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
    "describe_trace": "simserve.workload.statistics",
    "draw_roofline": "simserve.report.roofline_page",
    "draw_run": "simserve.report.run_figures",
    "find_file": "simserve.data_files",
    "identify": "simserve.study.points",
    "load_scenario": "simserve.scenario.loader",
    "read_trace": "simserve.workload.trace",
    "register": "simserve.registry",
    "roofline": "simserve.report.roofline",
    "simulate": "simserve.simulation",
    "thin_distribution": "simserve.report.thinning",
    "thin_series": "simserve.report.thinning",
    "write_run_page": "simserve.report.run_page",
}

__all__ = [
    "CapacityError",
    "InputError",
    "IntegrityError",
    "Request",
    "Result",
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
    "describe_trace",
    "draw_roofline",
    "draw_run",
    "find_file",
    "identify",
    "load_scenario",
    "read_trace",
    "register",
    "roofline",
    "simulate",
    "thin_distribution",
    "thin_series",
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
