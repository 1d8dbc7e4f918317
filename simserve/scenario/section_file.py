"""Reads a YAML file whose mapping a section describes: of an accelerator, of prices, of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from simserve.errors import ScenarioError
from simserve.scenario.places import Places
from simserve.scenario.problems import describe_problems, scenario_error, show
from simserve.scenario.yaml_text import read_yaml

S = TypeVar("S", bound=BaseModel)


def read_mapping(path: Path, expected: str) -> tuple[dict[str, Any], Places]:
    """Return the mapping of a YAML file, and the places of its keys and values.

    Args:
        path: The file.
        expected: What it should hold, for messages: "a mapping with base and axes".

    Raises:
        ScenarioError: If it cannot be read, or is something else.
    """
    try:
        data, places = read_yaml(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        message = f"cannot be read: {error.strerror}; expected {expected}"
        raise ScenarioError(message, file=str(path)) from None
    except UnicodeDecodeError as error:
        message = f"is no UTF-8 text (byte {error.start}); expected YAML"
        raise ScenarioError(message, file=str(path)) from None
    if not isinstance(data, dict):
        raise ScenarioError(f"expected {expected}, got {show(data)}", file=str(path), line=1, column=1)
    return data, places


def check_section(section: type[S], data: dict[str, Any], places: Places) -> S:
    """Return what the data says.

    Raises:
        ScenarioError: For all that is wrong in it, with its place and the nearest valid name.
    """
    try:
        return section.model_validate(data)
    except ValidationError as error:
        raise scenario_error(describe_problems(error, data, places, section)) from None
