"""Writes a scenario out again: YAML that loads to the same scenario, and the schema for editors."""

from __future__ import annotations

from typing import Any

import yaml

from simserve.scenario.files import lasting_path, named_files
from simserve.scenario.places import KeyPath
from simserve.scenario.schema import Scenario
from simserve.scenario.yaml_text import read_scalar


def dump_scenario(scenario: Scenario) -> str:
    """Return a scenario in its long form with all defaults filled in, as YAML text.

    The keys stand in the order of the schema; those that are null (the default of all that can be) are left
    out. The same scenario gives the same text, and `load_scenario` of the text, from any folder, gives the
    same scenario: paths of files that are not in the package's data become absolute.
    """
    data = scenario.model_dump(mode="json", exclude_none=True)
    for path, file in named_files(scenario):
        _set(data, path, lasting_path(file, scenario.folder))
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def _set(data: Any, path: KeyPath, value: str) -> None:
    for part in path[:-1]:
        data = data[part]
    data[path[-1]] = value


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a scenario file, short forms included, for editors."""
    schema: dict[str, Any] = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Scenario"}
    schema.update(Scenario.model_json_schema())
    text = {"type": "string"}
    sections = schema["properties"]
    entries = sections["pools"].pop("items")
    sections["pools"].pop("type", None)
    minimum = sections["pools"].pop("minItems", 1)
    entry = {"anyOf": [entries, text]}
    sections["pools"]["anyOf"] = [{"type": "array", "items": entry, "minItems": minimum}, entries, text]
    _allow(sections, "router", text)
    _allow(sections, "cost", text)
    pool = schema["$defs"]["Pool"]["properties"]
    _allow(pool, "engine", text)
    _allow(pool, "queue", {"type": "integer", "minimum": 0})
    version = schema["$defs"]["Engine"]["properties"]["version"]
    choices = version.pop("enum")
    version["anyOf"] = [{"enum": choices}, {"enum": [float(choice) for choice in choices]}, text]
    return schema


def _allow(properties: dict[str, Any], key: str, short: dict[str, Any]) -> None:
    """Let a section be given in a short form too."""
    section = properties[key]
    properties[key] = {
        "anyOf": [{"$ref": section.pop("$ref")}, short],
        **section,
    }


class _Dumper(yaml.SafeDumper):
    """Quotes what `read_scalar` would not read back as text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = None if read_scalar(text) is text else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
