"""`--set pools.0.engine.max_num_seqs=64`: changes any key of a scenario's long form."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from simserve.errors import ScenarioError
from simserve.scenario.known_keys import keys_of, models_at
from simserve.scenario.places import KeyPath, Place, Places, dotted
from simserve.scenario.problems import show
from simserve.scenario.schema import Scenario
from simserve.scenario.yaml_text import read_scalar, read_yaml


def apply_override(data: dict[str, Any], override: str, places: Places) -> None:
    """Set one key of a scenario's mapping, as `path=value` says.

    The path's parts are keys and list indices, separated by dots. The value is a plain scalar (`64`, `null`,
    text without quotes), or YAML if it starts with a quote or a bracket. Sections that are absent are made;
    whether their names are valid is for validation to judge.

    Args:
        data: The scenario in its long form; changed in place.
        override: `path=value`.
        places: Places of the data; changed so that errors name the override.

    Raises:
        ScenarioError: If it has no `=`, or the path runs through a plain value or past a list's end.
    """
    file = f"--set {override}"
    left, equals, right = override.partition("=")
    path = tuple(part.strip() for part in left.split("."))
    if not equals or not all(path):
        raise ScenarioError("expected path=value, such as pools.0.engine.max_num_seqs=64", file=file)
    right = right.strip()
    value = read_yaml(right, file)[0] if right.startswith(("[", "{", "'", '"')) else read_scalar(right)
    place = Place(file)
    holder: Any = data
    reached: KeyPath = ()
    for part in path[:-1]:
        key = _key_in(holder, part, reached, file)
        reached = (*reached, key)
        if isinstance(holder, dict) and holder.get(key) is None:
            holder[key] = {}
            places.override(reached, place)
        elif not isinstance(holder[key], dict | list):
            holder[key] = _long_form(holder[key], reached)
        holder = holder[key]
    key = _key_in(holder, path[-1], reached, file)
    holder[key] = value
    places.override((*reached, key), place)


def _long_form(value: Any, path: KeyPath) -> Any:
    """Return the long form of a section that is given as a plain value, or the value if it is no section."""
    for model in models_at(Scenario, path):
        try:
            return model.model_validate(value).model_dump(exclude_unset=True)
        except ValidationError:
            continue
    return value


def _key_in(holder: Any, part: str, reached: KeyPath, file: str) -> str | int:
    """Return a path's part as a key of the mapping, or an index of the list, that it is to be found in."""
    if isinstance(holder, dict):
        return part
    where = dotted(reached)
    if not isinstance(holder, list):
        raise ScenarioError(f"{where!r} is {show(holder)} and has no key {part!r}", file=file)
    if not part.isdecimal():
        known = part in keys_of(models_at(Scenario, reached))
        hint = f"; did you mean '{where}.0.{part}'?" if known else ""
        raise ScenarioError(
            f"{where!r} is a list; expected an index such as {where}.0, got {part!r}{hint}", file=file
        )
    if int(part) >= len(holder):
        raise ScenarioError(
            f"{where!r} has {len(holder)} entries, counted from 0; got index {part}", file=file
        )
    return int(part)
