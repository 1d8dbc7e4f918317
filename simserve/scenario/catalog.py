"""Finds models and accelerators by catalog name, by alias, or by path.

A name that is a file's stem is read at once; only an alias makes the catalog's files be looked
through, so that a run pays for one file and not for all of them.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from simserve.cost.calibration_file import parse_lines
from simserve.data_files import data_folder, find_file
from simserve.devices.accelerator import Accelerator, read_accelerator
from simserve.errors import InputError, UnknownNameError
from simserve.model.config import load_json, read_config
from simserve.model.shape import ModelShape

_ALIAS_LINE = re.compile(r"^aliases:\s*(\[.*\])\s*$", re.MULTILINE)


def model_names() -> list[str]:
    """Return the catalog's models, sorted."""
    return sorted(path.stem for path in data_folder("models").glob("*.json"))


def hardware_names() -> list[str]:
    """Return the catalog's accelerators, sorted."""
    return sorted(path.stem for path in data_folder("hardware").glob("*.yaml"))


def load_model(name_or_path: str, beside: Path | None = None) -> ModelShape:
    """Return the shape of a model.

    Args:
        name_or_path: A catalog name, an alias (a Hugging Face id), or a path to a config.json or to a
            folder that holds one. Names are compared without regard to case.
        beside: The scenario's file, for a relative path.

    Raises:
        UnknownNameError: If it is none of them; names the nearest.
        InputError: If the file is no model config.
    """
    if name_or_path.endswith(".json"):
        return read_config(find_file(name_or_path, beside))
    path = data_folder("models") / f"{name_or_path.lower()}.json"
    if path.is_file():
        return read_config(path)
    folder = _config_in_folder(name_or_path, beside)
    if folder is not None:
        return read_config(folder)
    stem = _model_aliases().get(name_or_path.lower())
    if stem is None:
        raise UnknownNameError(
            "model",
            name_or_path,
            [*model_names(), *_alias_spellings("models")],
            "expected one of `simserve list models`, or a path to its config.json",
        )
    path = data_folder("models") / f"{stem}.json"
    variant = load_json(path).get("_variants", {}).get(name_or_path.lower())
    return read_config({**load_json(path), **variant}, stem) if variant else read_config(path)


def load_hardware(name_or_path: str, beside: Path | None = None) -> Accelerator:
    """Return an accelerator.

    Args:
        name_or_path: A catalog name, an alias (compared without regard to case, spaces, `-` and `_`),
            or a path to a YAML file.
        beside: The scenario's file, for a relative path.

    Raises:
        UnknownNameError: If it is none of them; names the nearest.
        InputError: If the file is no hardware description.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        path = find_file(name_or_path, beside)
        return read_accelerator(read_yaml(path), path)
    path = data_folder("hardware") / f"{name_or_path.lower()}.yaml"
    if not path.is_file():
        stem = _hardware_aliases().get(_squeeze(name_or_path))
        if stem is None:
            raise UnknownNameError("hardware", name_or_path, hardware_names())
        path = data_folder("hardware") / f"{stem}.yaml"
    return read_accelerator(read_yaml(path), path.name)


def load_calibration(accelerator: Accelerator) -> dict[str, Any] | None:
    """Return the mapping of `hardware/calibration/<name>.yaml`, or None where nobody has measured it."""
    path = data_folder("hardware") / "calibration" / f"{accelerator.name}.yaml"
    return read_calibration_file(path) if path.is_file() else None


def load_generic_calibration() -> dict[str, Any] | None:
    """Return the mapping of the constants that price an accelerator without measurements, or None."""
    path = data_folder("hardware") / "calibration" / "generic.yaml"
    return read_calibration_file(path) if path.is_file() else None


def read_calibration_file(path: Path) -> dict[str, Any]:
    """Read a calibration file, fast where the tool wrote it.

    Raises:
        InputError: If it cannot be read, or holds no mapping.
    """
    try:
        content = parse_lines(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        content = None
    return read_yaml(path) if content is None else content


def _squeeze(name: str) -> str:
    return re.sub(r"[\s_\-]+", "", name.lower())


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
    return {_squeeze(spelling): stem for spelling, stem in spellings.items()}


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


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        InputError: If it cannot be read, or is something else; with the place.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except OSError as error:
        raise InputError(f"cannot read the file: {error.strerror}", file=str(path)) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        raise InputError(
            f"not valid YAML: {getattr(error, 'problem', error)}",
            file=str(path),
            line=mark.line + 1 if mark else None,
            column=mark.column + 1 if mark else None,
        ) from error
    if not isinstance(content, dict):
        raise InputError("expected a mapping of hardware keys", file=str(path))
    return content
