"""Reads YAML as data: plain values with their places, and nothing that runs code or multiplies itself.

Refused, with the place: anchors and aliases, tags, duplicate keys, keys that are no text, several documents.
Scalars follow YAML 1.2's core schema (https://yaml.org/spec/1.2.2/#103-core-schema), so `off` is text and
`1e-3` a number; `50_000` is a number too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from simserve.errors import ScenarioError
from simserve.scenario.places import KeyPath, Place, Places

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_DEPTH = 64  # far deeper than any scenario; keeps a hostile file from exhausting the stack
_INT = re.compile(r"[-+]?[0-9]+(_[0-9]+)*")
_BASED_INT = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}


def read_yaml(text: str, file: str) -> tuple[Any, Places]:
    """Return the value of a YAML text, and the places of all its keys and values.

    Args:
        text: One YAML document; an empty one is None.
        file: Its name in error messages.

    Raises:
        ScenarioError: If it is no YAML, or holds what is refused (see the module).
    """
    places = Places(Place(file))
    try:
        value = _Reader(yaml.parse(text, Loader=_LOADER), file, places).read_document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = (mark.line + 1, mark.column + 1) if mark is not None else (None, None)
        raise ScenarioError(f"not valid YAML: {error.problem}", file=file, line=at[0], column=at[1]) from None
    except yaml.YAMLError as error:
        raise ScenarioError(f"not valid YAML: {str(error).splitlines()[0]}", file=file) from None
    return value, places


def read_scalar(text: str) -> Any:
    """Return what a plain (unquoted) scalar means: None, a bool, an int, a float or the text itself."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text) and len(text) <= 40:
        return int(text)
    if _BASED_INT.fullmatch(text) and len(text) <= 40:
        return int(text, 0)
    return float(text.replace("_", "")) if _FLOAT.fullmatch(text) or _INT.fullmatch(text) else text


class _Reader:
    """Builds values from the parser's events."""

    def __init__(self, events: Iterator[Any], file: str, places: Places) -> None:
        self._events = events
        self._file = file
        self._places = places

    def read_document(self) -> Any:
        value = None
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._refuse(event, "a second YAML document; expected one scenario a file")
                value = self._read(self._next(), ())
        return value

    def _read(self, event: Any, path: KeyPath) -> Any:
        self._places.values[path] = self._place(event)
        if isinstance(event, yaml.ScalarEvent):
            return read_scalar(event.value) if event.implicit[0] else event.value
        if len(path) >= _MAX_DEPTH:
            raise self._refuse(event, f"nested more than {_MAX_DEPTH} levels deep")
        if isinstance(event, yaml.SequenceStartEvent):
            return self._read_list(path)
        return self._read_mapping(path)

    def _read_list(self, path: KeyPath) -> list[Any]:
        result: list[Any] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            result.append(self._read(event, (*path, len(result))))
        return result

    def _read_mapping(self, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise self._refuse(event, "a list or mapping as a key; expected a name")
            key = str(event.value)
            if key in result:
                first = self._places.keys[(*path, key)]
                raise self._refuse(event, f"key {key!r} stands twice; the first is in line {first.line}")
            self._places.keys[(*path, key)] = self._place(event)
            result[key] = self._read(self._next(), (*path, key))
        return result

    def _next(self) -> Any:
        event = next(self._events)
        if isinstance(event, yaml.AliasEvent):
            raise self._refuse(event, f"alias *{event.anchor}: aliases are not allowed; write the value out")
        if getattr(event, "anchor", None) is not None:
            raise self._refuse(event, f"anchor &{event.anchor}: anchors are not allowed; write the value out")
        if getattr(event, "tag", None) is not None:
            raise self._refuse(
                event, f"tag {_short_tag(event.tag)}: tags are not allowed; a scenario is plain data"
            )
        return event

    def _place(self, event: Any) -> Place:
        return Place(self._file, event.start_mark.line + 1, event.start_mark.column + 1)

    def _refuse(self, event: Any, message: str) -> ScenarioError:
        place = self._place(event)
        return ScenarioError(message, file=place.file, line=place.line, column=place.column)


def _short_tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")
