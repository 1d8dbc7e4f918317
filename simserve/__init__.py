"""simserve: a faithful, fast simulator of cluster-scale LLM serving.

The names of `__all__` are the public interface; each is imported when it is first used, so that a command
pays only for what it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
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
    from simserve.scenario.loader import load_scenario
    from simserve.scenario.schema import Scenario
    from simserve.simulation import simulate
    from simserve.workload.request import Request, Segment
    from simserve.workload.trace import read_trace
    from simserve.workload.workload import Workload

_MODULES = {
    "CapacityError": "simserve.errors",
    "InputError": "simserve.errors",
    "IntegrityError": "simserve.errors",
    "Request": "simserve.workload.request",
    "Result": "simserve.metrics.result",
    "Scenario": "simserve.scenario.schema",
    "ScenarioError": "simserve.errors",
    "Segment": "simserve.workload.request",
    "SimserveError": "simserve.errors",
    "SimulationError": "simserve.errors",
    "TraceError": "simserve.errors",
    "UnknownNameError": "simserve.errors",
    "Workload": "simserve.workload.workload",
    "load_scenario": "simserve.scenario.loader",
    "read_trace": "simserve.workload.trace",
    "register": "simserve.registry",
    "roofline": "simserve.report.roofline",
    "simulate": "simserve.simulation",
}

__all__ = [
    "CapacityError",
    "InputError",
    "IntegrityError",
    "Request",
    "Result",
    "Scenario",
    "ScenarioError",
    "Segment",
    "SimserveError",
    "SimulationError",
    "TraceError",
    "UnknownNameError",
    "Workload",
    "__version__",
    "load_scenario",
    "read_trace",
    "register",
    "roofline",
    "simulate",
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
