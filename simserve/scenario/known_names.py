"""The names of models and accelerators: the catalog's, their aliases, and paths of files of the user's.

A name that is a file's stem is found at once; only an alias makes the catalog's files be looked through, so
that a run pays for one file and not for all of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from simserve.data_files import data_folder, find_file
from simserve.errors import UnknownNameError
from simserve.model.config import load_json

_ALIAS_LINE = re.compile(r"^aliases:\s*(\[.*\])\s*$", re.MULTILINE)


class Named(NamedTuple):
    """What a name stands for.

    Attributes:
        name: The one under which it is shown: the catalog's, or the path of a file as it was given.
        path: Of its file.
        changes: Keys of that file that are other for this name, which is then kept: a variant of a model.
    """

    name: str
    path: Path
    changes: Mapping[str, Any] = {}


def model_names() -> list[str]:
    """Return the catalog's models, sorted."""
    return sorted(path.stem for path in data_folder("models").glob("*.json"))


def hardware_names() -> list[str]:
    """Return the catalog's accelerators, sorted."""
    return sorted(path.stem for path in data_folder("hardware").glob("*.yaml"))


def find_model(name_or_path: str, beside: Path | None = None) -> Named:
    """Return what the name of a model stands for.

    Args:
        name_or_path: A catalog name, an alias (a Hugging Face id), or a path to a config.json or to a
            folder that holds one. Names are compared without regard to case.
        beside: The scenario's file, for a relative path.

    Raises:
        UnknownNameError: If it is none of them; names the nearest.
        InputError: If there is no such file.
    """
    if name_or_path.endswith(".json"):
        return Named(name_or_path, find_file(name_or_path, beside))
    name = name_or_path.lower()
    stem = name if _is_entry("models", f"{name}.json") else None
    if stem is None:
        folder = _config_in_folder(name_or_path, beside)
        if folder is not None:
            return Named(name_or_path, folder)
        stem = _model_aliases().get(name)
    if stem is None:
        raise UnknownNameError(
            "model",
            name_or_path,
            [*model_names(), *_alias_spellings("models")],
            "expected one of `simserve list models`, or a path to its config.json",
        )
    path = data_folder("models") / f"{stem}.json"
    changes = {} if name == stem else load_json(path).get("_variants", {}).get(name, {})
    return Named(name if changes else stem, path, changes)


def find_hardware(name_or_path: str, beside: Path | None = None) -> Named:
    """Return what the name of an accelerator stands for.

    Args:
        name_or_path: A catalog name, an alias (compared without regard to case, spaces, `-` and `_`),
            or a path to a YAML file.
        beside: The scenario's file, for a relative path.

    Raises:
        UnknownNameError: If it is none of them; names the nearest.
        InputError: If there is no such file.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        return Named(name_or_path, find_file(name_or_path, beside))
    name = name_or_path.lower()
    stem = name if _is_entry("hardware", f"{name}.yaml") else _hardware_aliases().get(squeeze(name))
    if stem is None:
        raise UnknownNameError("hardware", name_or_path, _near_hardware(name) or hardware_names())
    return Named(stem, data_folder("hardware") / f"{stem}.yaml")


def _near_hardware(name: str) -> list[str]:
    """Return the nearest name, or the nearest alias if that says more than the name spelt otherwise."""
    spellings = {name: name for name in hardware_names()}
    spellings = {alias.lower(): stem for alias, stem in _alias_spellings("hardware").items()} | spellings
    close = get_close_matches(name, sorted(spellings), n=1, cutoff=0.5)
    return [spellings[each] if squeeze(each) == squeeze(spellings[each]) else each for each in close]


def squeeze(name: str) -> str:
    """Return an accelerator's name as it is compared: without case, spaces, `-` and `_`."""
    return re.sub(r"[\s_\-]+", "", name.lower())


def _is_entry(kind: str, file: str) -> bool:
    return "/" not in file and (data_folder(kind) / file).is_file()


def _config_in_folder(name: str, beside: Path | None) -> Path | None:
    for base in (beside if beside is None or beside.is_dir() else beside.parent, Path.cwd()):
        if base is not None and (base / name / "config.json").is_file():
            return base / name / "config.json"
    return None


@cache
def _model_aliases() -> dict[str, str]:
    """Map every alias, in lower case, to the stem of its file."""
    return {spelling.lower(): stem for spelling, stem in _alias_spellings("models").items()}


@cache
def _hardware_aliases() -> dict[str, str]:
    """Map every alias and name, squeezed, to the stem of its file."""
    spellings = {**{name: name for name in hardware_names()}, **_alias_spellings("hardware")}
    return {squeeze(spelling): stem for spelling, stem in spellings.items()}


@cache
def _alias_spellings(kind: str) -> dict[str, str]:
    """Map every alias as written to the stem of its file.

    A hardware file's aliases stand on one line in JSON's list form, so that no YAML need be parsed.
    """
    result: dict[str, str] = {}
    for path in sorted(data_folder(kind).glob("*.json" if kind == "models" else "*.yaml")):
        if kind == "models":
            content = load_json(path)
            aliases = [*content.get("_aliases", []), *content.get("_variants", {})]
        else:
            line = _ALIAS_LINE.search(path.read_text(encoding="utf-8"))
            aliases = json.loads(line.group(1)) if line else []
        result.update({alias: path.stem for alias in aliases})
    return result
