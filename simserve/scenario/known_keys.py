"""The keys that a scenario's sections know: the models at a path, and where a misplaced key belongs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import SequenceMatcher
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from simserve.errors import InputError, nearest
from simserve.scenario.places import KeyPath, dotted

# As similar as a misspelt key of another section must be to be meant, and one of the same section.
_SIMILAR_ELSEWHERE, _SIMILAR_HERE = 0.75, 0.6
_MOST_PATHS = 4
# How a model is reached in a mapping whose keys are names.
_OF_A_NAME: KeyPath = ("NAME",)


def models_at(root: type[BaseModel], location: Iterable[str | int]) -> list[type[BaseModel]]:
    """Return the models that a path, or a location of pydantic's, may be: several inside a union."""
    models = [root]
    for part in location:
        named = [model for model in models if model.__name__ == part]
        fields = [model.model_fields[part] for model in models if part in model.model_fields]
        if named:
            models = named
        elif fields:
            models = [found for field in fields for _, found in _sections_in(field.annotation)]
    return models


def keys_of(models: Iterable[type[BaseModel]]) -> list[str]:
    """Return the keys that mappings of any of these models may have, sorted."""
    return sorted({key for model in models for key in _fields_of(model)})


def check_path(root: type[BaseModel], path: KeyPath) -> None:
    """Refuse a path of a key that no file could have; entries of lists are numbers.

    Raises:
        InputError: Names the nearest.
    """
    for length, part in enumerate(path):
        known = keys_of(models_at(root, path[:length]))
        if not known:  # what an option of the user's holds
            return
        if isinstance(part, str) and part not in known:
            wrong = path[: length + 1]
            raise InputError(f"unknown key {dotted(wrong)!r}{suggest_key(root, wrong)}")


def suggest_key(root: type[BaseModel], path: KeyPath, location: Iterable[str | int] = ()) -> str:
    """Return what an unknown key may have been meant to be, as the end of a message.

    In turn: the same key below its section or, from there outwards, below those around it; a key that it
    begins (`ttft` for `ttft_s`); a similar key of its own section; a similar one anywhere; all of its own.

    Args:
        root: The model of the whole.
        path: Of the unknown key.
        location: Of the section that it stands in, as pydantic says it; without it, its path.
    """
    key, section = str(path[-1]), path[:-1]
    here = keys_of(models_at(root, location or section))

    def similar(name: str) -> float:
        return SequenceMatcher(None, key, name).ratio()

    for fits in (key.__eq__, lambda name: name.startswith(f"{key}_")):
        found = _find_around(root, section, fits)
        if found:
            return _ask(found)
    if max(map(similar, here), default=0.0) < _SIMILAR_HERE:
        known = [name for _, name in _paths_below(models_at(root, ()), ())]
        best = max(sorted(known), key=similar, default="")
        if similar(best) >= _SIMILAR_ELSEWHERE:
            return _ask(_find_around(root, section, best.__eq__))
    return nearest(key, here)


def _ask(paths: list[str]) -> str:
    asked = [repr(path) for path in paths[:_MOST_PATHS]]
    most = ", ".join(asked[:-1])
    return f"; did you mean {most}{' or ' if most else ''}{asked[-1]}?"


def _find_around(root: type[BaseModel], section: KeyPath, fits: Callable[[str], bool]) -> list[str]:
    """Return the shortest paths to fitting keys below a section, or below the nearest one around it.

    A key of the section itself is named without its path, as in other messages.
    """
    for length in range(len(section), -1, -1):
        start = section[:length]
        found = [
            name if path == section else dotted((*path, name))
            for path, name in _paths_below(models_at(root, start), start)
            if fits(name)
        ]
        if found:
            return found
    return []


def _paths_below(models: list[type[BaseModel]], start: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Yield every key below some models with the path of its section, the shortest first.

    A model that stands in several places is told of in the first alone, the entry of a list as number 0, and
    not what stands below a name of the user's.
    """
    seen = set(models)
    front = [(start, model) for model in models]
    while front:
        below: list[tuple[KeyPath, type[BaseModel]]] = []
        for path, model in front:
            for key, annotation in _fields_of(model).items():
                yield path, key
                for entry, inner in _sections_in(annotation):
                    if inner not in seen and entry != _OF_A_NAME:
                        seen.add(inner)
                        below.append(((*path, key, *entry), inner))
        front = below


def _fields_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the annotations of a model's keys, as a file writes them."""
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _sections_in(annotation: Any, entry: KeyPath = ()) -> Iterator[tuple[KeyPath, type[BaseModel]]]:
    """Yield the models inside an annotation, each with its entry: (), in a list (0,), or `_OF_A_NAME`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield entry, annotation
    origin = get_origin(annotation)
    if isinstance(origin, type) and issubclass(origin, tuple | list):
        entry = (0,)
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        entry = _OF_A_NAME
    for inner in get_args(annotation):
        yield from _sections_in(inner, entry)
