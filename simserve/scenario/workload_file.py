"""A workload section by itself: from a file, with changes, to a checked spec."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from simserve.errors import ScenarioError
from simserve.scenario.places import Place, Places
from simserve.scenario.problems import describe_problems, scenario_error
from simserve.scenario.section import Section
from simserve.scenario.workload_schema import WorkloadSpec
from simserve.scenario.yaml_text import read_yaml


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
        try:
            found, places = read_yaml(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise ScenarioError(f"cannot be read: {error}", file=str(path)) from None
        if not isinstance(found, dict) or "workload" not in found:
            raise ScenarioError("expected a mapping with `workload` (and `seed`)", file=str(path), line=1)
        data = {key: found[key] for key in ("seed", "workload") if key in found}
    section = data.get("workload", {})
    if changes:
        section = {**section, **changes} if isinstance(section, dict) else dict(changes)
    data["workload"] = section
    try:
        return WorkloadFile.model_validate(data)
    except ValidationError as error:
        raise scenario_error(describe_problems(error, data, places, WorkloadFile)) from None
