"""Turns pydantic's errors into messages that say where, what was expected, and the nearest valid name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from simserve.errors import InputError, ScenarioError, nearest
from simserve.scenario.places import KeyPath, Place, Places
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
        if kind in _EXPECTED:
            expected = _EXPECTED[kind].format(**context)
            alternatives.setdefault(path, []).append((expected, problem["input"]))
        else:
            messages.append(_describe(problem, path, places, root))
    for path, found in alternatives.items():
        expected = " or ".join(dict.fromkeys(text for text, _ in found))
        value = found[0][1]
        hint = _nearest_choice(value, found) or _unit_hint(value, path)
        text = f"{dotted(path)}: expected {expected}, got {show(value)}{hint}"
        messages.append((places.of_value(path), text))
    return sorted(messages, key=lambda item: (item[0].line or 0, item[0].column or 0, item[1]))


def _describe(
    problem: ErrorDetails, path: KeyPath, places: Places, root: type[BaseModel]
) -> tuple[Place, str]:
    """Return place and message of one problem that is not about a value's type or range."""
    kind, location = problem["type"], problem["loc"]
    if kind == "extra_forbidden":
        hint = nearest(str(location[-1]), _keys_at(root, location[:-1]))
        return places.of_key(path), f"unknown key {dotted(path)!r}{hint}"
    if kind == "missing":
        key = dotted((*path, str(location[-1])))
        return places.of_value(path), f"missing key {key!r}{_description_at(root, location)}"
    if kind == "combination":
        path = (*path, problem["ctx"]["key"])
        return places.of_value(path), f"{dotted(path)}: {problem['ctx']['message']}"
    text = problem["msg"].removeprefix("Value error, ")
    return places.of_value(path), f"{dotted(path)}: {text}" if path else text


def dotted(path: KeyPath) -> str:
    """Return a path as `--set` takes it: `pools.0.replicas`."""
    return ".".join(str(part) for part in path)


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


def _keys_at(root: type[BaseModel], location: Iterable[str | int]) -> list[str]:
    return sorted({key for model in models_at(root, location) for key in model.model_fields})


def _description_at(root: type[BaseModel], location: tuple[str | int, ...]) -> str:
    key = str(location[-1])
    for model in models_at(root, location[:-1]):
        if key in model.model_fields and model.model_fields[key].description:
            return f"; expected: {model.model_fields[key].description}"
    return ""


def models_at(root: type[BaseModel], location: Iterable[str | int]) -> list[type[BaseModel]]:
    """Return the models that a path, or a location of pydantic's, may be: several inside a union."""
    models = [root]
    for part in location:
        named = [model for model in models if model.__name__ == part]
        fields = [model.model_fields[part] for model in models if part in model.model_fields]
        if named:
            models = named
        elif fields:
            models = [found for field in fields for found in _models_in(field.annotation)]
    return models


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)
