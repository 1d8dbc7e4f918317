"""A workload section by itself: from a file, with changes, to a checked spec."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from simserve.errors import ScenarioError
from simserve.scenario.places import Place, Places
from simserve.scenario.section import Section
from simserve.scenario.section_file import check_section, read_mapping
from simserve.scenario.workload_schema import WorkloadSpec


class WorkloadFile(Section):
    """What of a scenario makes its requests."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(default=0, description="Seed of all random draws.")
    workload: WorkloadSpec = Field(description="The requests: a trace, or generators.")


def load_workload_file(path: Path | None, changes: Mapping[str, Any]) -> WorkloadFile:
    """Return the seed and the workload section of a scenario, or of a file with only these two.

    Args:
        path: YAML; other sections of a scenario are not looked at. None: nothing but the changes.
        changes: Keys of the workload section that replace the file's.

    Raises:
        ScenarioError: If something is wrong, with file, line and column where it is the file's.
    """
    places = Places(Place("the options"))
    data: dict[str, Any] = {}
    if path is not None:
        expected = "a mapping with `workload` (and `seed`)"
        found, places = read_mapping(path, expected)
        if "workload" not in found:
            raise ScenarioError(f"expected {expected}", file=str(path), line=1)
        data = {key: found[key] for key in ("seed", "workload") if key in found}
    section = data.get("workload", {})
    if changes:
        section = {**section, **changes} if isinstance(section, dict) else dict(changes)
    data["workload"] = section
    return check_section(WorkloadFile, data, places)
