"""Turns pydantic's errors into messages that say where, what was expected, and the nearest valid name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from simserve.errors import InputError, ScenarioError, nearest
from simserve.scenario.known_keys import models_at, suggest_key
from simserve.scenario.known_names import hardware_names, model_names
from simserve.scenario.places import KeyPath, Place, Places, dotted
from simserve.units import parse_seconds

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "string_too_short": "some text",
    "none_required": "null",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
    "dict_type": "a mapping of keys",
    "list_type": "a list",
    "tuple_type": "a list",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
    "too_short": "a list of at least {min_length}",
    "literal_error": "{expected}",
}


def scenario_error(messages: Iterable[tuple[Place, str]]) -> ScenarioError:
    """Return one error for all messages: with its place if there is one, else a line each."""
    lines = list(dict.fromkeys(messages))
    if len(lines) == 1:
        place, message = lines[0]
        return ScenarioError(message, file=place.file, line=place.line, column=place.column)
    errors = (ScenarioError(text, file=at.file, line=at.line, column=at.column) for at, text in lines)
    return ScenarioError("\n".join(str(error) for error in errors))


def describe_problems(
    error: ValidationError, data: Any, places: Places, root: type[BaseModel]
) -> list[tuple[Place, str]]:
    """Return place and message of everything that validation found wrong.

    Args:
        error: What pydantic raised for `root.model_validate(data)`.
        data: The validated value.
        places: Places of the keys and values of `data`.
        root: The model, for the names and descriptions of its keys.
    """
    alternatives: dict[KeyPath, list[tuple[str, Any]]] = {}
    messages: list[tuple[Place, str]] = []
    for problem in error.errors(include_url=False):
        path = _path_in(data, problem["loc"])
        kind, context = problem["type"], problem.get("ctx", {})
        if kind == "too_short" and len(problem["input"]) >= context["min_length"]:
            continue  # pydantic counts valid entries only; the invalid ones have their own messages
        expected = expected_of(kind, context)
        if expected is not None:
            alternatives.setdefault(path, []).append((expected, problem["input"]))
        else:
            messages.append(_describe(problem, path, places, root))
    for path, found in alternatives.items():
        wanted = " or ".join(dict.fromkeys(text for text, _ in found))
        value = found[0][1]
        hint = _nearest_choice(value, found) or _unit_hint(value, path) or _catalog_hint(value, path)
        text = f"{dotted(path)}: expected {wanted}, got {show(value)}{hint}"
        messages.append((places.of_value(path), text))
    return sorted(messages, key=lambda item: (item[0].line or 0, item[0].column or 0, item[1]))


def expected_of(kind: str, context: Mapping[str, Any]) -> str | None:
    """Return what was expected in place of a value of a wrong type or range, in words; None for other errors.

    Args:
        kind, context: `type` and `ctx` of the error, as pydantic gives them.
    """
    return _EXPECTED[kind].format(**context) if kind in _EXPECTED else None


def _describe(
    problem: ErrorDetails, path: KeyPath, places: Places, root: type[BaseModel]
) -> tuple[Place, str]:
    """Return place and message of one problem that is not about a value's type or range."""
    kind, location = problem["type"], problem["loc"]
    if kind == "extra_forbidden":
        hint = suggest_key(root, path, location[:-1])
        return places.of_key(path), f"unknown key {dotted(path)!r}{hint}"
    if kind == "missing":
        key = dotted((*path, str(location[-1])))
        return places.of_value(path), f"missing key {key!r}{_description_at(root, location)}"
    if kind == "combination":
        path = (*path, problem["ctx"]["key"])
        return places.of_value(path), f"{dotted(path)}: {problem['ctx']['message']}"
    text = problem["msg"].removeprefix("Value error, ")
    return places.of_value(path), f"{dotted(path)}: {text}" if path else text


def show(value: Any) -> str:
    """Return a value for a message: short, and in YAML's words."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _nearest_choice(value: Any, found: list[tuple[str, Any]]) -> str:
    choices = [part for text, _ in found for part in text.split("'")[1::2]]
    hint = nearest(value, choices) if isinstance(value, str) and choices else ""
    return hint if "did you mean" in hint else ""


def _unit_hint(value: Any, path: KeyPath) -> str:
    """Return a duration with a unit, as other keys take it, as the number that this key takes; or ""."""
    name = str(path[-1]) if path else ""
    if not isinstance(value, str) or not name.endswith("_s") or name.endswith("_per_s"):
        return ""
    try:
        return f"; it is in seconds: {parse_seconds(value):g}"
    except InputError:
        return ""


def _catalog_hint(value: Any, path: KeyPath) -> str:
    """Return the names of the catalog that are near to what was read as a number, such as 4090; or ""."""
    key = path[-1] if path else ""
    if key not in ("hardware", "model") or isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    known, where = (hardware_names(), "hardware") if key == "hardware" else (model_names(), "models")
    hint = nearest(str(value), known)
    return hint if "did you mean" in hint else f"; the names are those of `simserve list {where}`"


def _path_in(data: Any, location: Iterable[str | int]) -> KeyPath:
    """Return the parts of pydantic's location that are keys or indices of the data.

    The others name the alternative of a union that was tried, or a missing key.
    """
    path: list[str | int] = []
    for part in location:
        inside = isinstance(part, int) and isinstance(data, list | tuple) and part < len(data)
        if inside or (isinstance(data, Mapping) and part in data):
            path.append(part)
            data = data[part]
    return tuple(path)


def _description_at(root: type[BaseModel], location: tuple[str | int, ...]) -> str:
    key = str(location[-1])
    for model in models_at(root, location[:-1]):
        if key in model.model_fields and model.model_fields[key].description:
            return f"; expected: {model.model_fields[key].description}"
    return ""
