"""Loads models, accelerators and calibrations by catalog name, by alias, or by path."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from simserve.cost.calibration_file import parse_lines
from simserve.data_files import data_folder
from simserve.devices.accelerator import Accelerator
from simserve.model.config import load_json, read_config
from simserve.model.shape import ModelShape
from simserve.scenario.hardware_file import read_accelerator
from simserve.scenario.known_names import find_hardware, find_model
from simserve.scenario.section_file import read_mapping


def load_model(name_or_path: str, beside: Path | None = None) -> ModelShape:
    """Return the shape of a model.

    Args:
        name_or_path: As of `find_model`.
        beside: The scenario's file, for a relative path.

    Raises:
        UnknownNameError: If it is no name or path of a model; names the nearest.
        InputError: If the file is no model config.
    """
    found = find_model(name_or_path, beside)
    if found.changes:
        return read_config({**load_json(found.path), **found.changes}, found.path.stem)
    return read_config(found.path)


def load_hardware(name_or_path: str, beside: Path | None = None) -> Accelerator:
    """Return an accelerator.

    Args:
        name_or_path: As of `find_hardware`.
        beside: The scenario's file, for a relative path.

    Raises:
        UnknownNameError: If it is no name or path of an accelerator; names the nearest.
        InputError: If the file is no hardware description.
    """
    return read_accelerator(find_hardware(name_or_path, beside).path)


def load_calibration(accelerator: Accelerator) -> dict[str, Any] | None:
    """Return the mapping of `hardware/calibration/<name>.yaml`, or None where nobody has measured it.

    A file is read once, and again only after it has changed: the mapping is shared and must not be changed.
    """
    return _read_once(data_folder("hardware") / "calibration" / f"{accelerator.name}.yaml")


def load_generic_calibration() -> dict[str, Any] | None:
    """Return the mapping of the constants that price an accelerator without measurements, or None.

    Shared, as that of `load_calibration`.
    """
    return _read_once(data_folder("hardware") / "calibration" / "generic.yaml")


def _read_once(path: Path) -> dict[str, Any] | None:
    return _read_version(path, path.stat().st_mtime_ns) if path.is_file() else None


@lru_cache(maxsize=32)
def _read_version(path: Path, changed_ns: int) -> dict[str, Any]:
    return read_calibration_file(path)


def read_calibration_file(path: Path) -> dict[str, Any]:
    """Read a calibration file, fast where the tool wrote it.

    Raises:
        InputError: If it cannot be read, or holds no mapping.
    """
    try:
        content = parse_lines(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        content = None
    return read_mapping(path, "a mapping of fitted kernels")[0] if content is None else content
