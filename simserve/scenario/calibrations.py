"""Finds the calibration of an accelerator as tables of measured kernels spell its name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simserve.cost.kernel_calibration import KernelCalibration
from simserve.devices.accelerator import Accelerator
from simserve.errors import InputError
from simserve.scenario.catalog import (
    load_calibration,
    load_generic_calibration,
    load_hardware,
    read_calibration_file,
)
from simserve.scenario.known_names import squeeze

# What an accelerator that is in no catalog is taken for; its rows are labelled generic.
UNKNOWN_HARDWARE = "a100-sxm-80gb"


class CatalogCalibrations:
    """The calibrations that ship, and one from a file of the user's."""

    def __init__(self, file: str | None = None, own: Accelerator | None = None) -> None:
        """Read the user's file.

        Args:
            file: A calibration file, used in place of its accelerator's own; None: only those that ship.
            own: An accelerator that is in no catalog.

        Raises:
            InputError: If the file is of an accelerator that neither the catalog nor `own` describes.
        """
        self._own = own
        self._given: Mapping[str, Any] = read_calibration_file(Path(file)) if file is not None else {}
        self._file = file
        name = str(self._given.get("accelerator", ""))
        if self._given and name != (own.name if own else "") and find_accelerator(name) is None:
            message = f"accelerator: the catalog has no {name!r}; name its hardware file with --hardware FILE"
            raise InputError(message, file=file)
        self._found: dict[str, KernelCalibration] = {}

    def of(self, hardware: str) -> KernelCalibration:
        """Return the calibration of an accelerator by the table's spelling."""
        if hardware not in self._found:
            self._found[hardware] = self._load(hardware)
        return self._found[hardware]

    def _load(self, hardware: str) -> KernelCalibration:
        generic = load_generic_calibration()
        is_own = self._own is not None and Spellings(self._own)(hardware)
        accelerator = self._own if is_own else find_accelerator(hardware)
        if accelerator is None:
            return KernelCalibration(load_hardware(UNKNOWN_HARDWARE), None, generic)
        if self._given.get("accelerator") == accelerator.name:
            return KernelCalibration(accelerator, self._given, generic, self._file)
        name = f"{accelerator.name}.yaml"
        return KernelCalibration(accelerator, load_calibration(accelerator), generic, name)


def find_accelerator(hardware: str) -> Accelerator | None:
    """Return the catalog's accelerator by a table's spelling; None if it has none."""
    try:
        return load_hardware(hardware)
    except InputError:
        return None


class Spellings:
    """Whether a table's `hardware` means an accelerator."""

    def __init__(self, accelerator: Accelerator) -> None:
        """Take its name and aliases."""
        self.names = {squeeze(name) for name in (accelerator.name, *accelerator.aliases)}

    def __call__(self, hardware: str) -> bool:
        """Compare without regard to case, spaces, `-` and `_`."""
        return squeeze(hardware) in self.names
