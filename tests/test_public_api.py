"""The public names: all there, each from the room that the documentation says, none by accident."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import simserve

PUBLIC = {
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
    "identify",
    "is_sweeping",
    "load_scenario",
    "load_series",
    "measure_load",
    "memory_rows",
    "prefix_rows",
    "read_trace",
    "forbid_imports",
    "register",
    "reuse_curve",
    "roofline",
    "simulate",
    "thin_distribution",
    "thin_series",
    "tokens_at_once",
    "workload_of",
    "write_run_page",
}


def test_all_is_the_documented_list() -> None:
    assert set(simserve.__all__) == PUBLIC
    assert dir(simserve) == sorted(PUBLIC)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_name_resolves_and_is_documented(name: str) -> None:
    value = getattr(simserve, name)
    if name != "__version__":
        assert value.__name__ == name
        assert inspect.getdoc(value)
        assert value.__module__.startswith("simserve.")


def test_every_name_is_in_the_documentation() -> None:
    page = (Path(__file__).parents[1] / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    missing = {name for name in PUBLIC - {"__version__"} if f"`{name}" not in page}
    assert not missing


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'simulator'"):
        _ = simserve.simulator


def test_errors_have_one_root_and_their_exit_status() -> None:
    errors = [getattr(simserve, name) for name in PUBLIC if name.endswith("Error")]
    assert all(issubclass(error, simserve.SimserveError) for error in errors)
    statuses = {error.__name__: error.exit_status for error in errors}
    assert statuses["InputError"] == statuses["TraceError"] == statuses["CapacityError"] == 2
    assert statuses["SimulationError"] == statuses["IntegrityError"] == 1
