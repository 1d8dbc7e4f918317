"""What `simserve calibrate` does: finds accelerators and their files, fits, checks, prints."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from simserve.cost.calibrate.accelerator_fit import RowGroup, read_groups
from simserve.cost.calibrate.checking import KEYS, Condition, check_report
from simserve.cost.calibrate.files import NamedFit, format_calibration
from simserve.cost.calibrate.generic_fit import GenericFits
from simserve.cost.calibrate.plots import PlotData, require_plotly
from simserve.cost.kernel_calibration import KernelCalibration
from simserve.devices.accelerator import Accelerator
from simserve.errors import InputError, UnknownNameError
from simserve.scenario.catalog import (
    load_calibration,
    load_generic_calibration,
    load_hardware,
    read_calibration_file,
)

# What an accelerator that is in no catalog is taken for; its rows are labelled generic.
UNKNOWN_HARDWARE = "a100-sxm-80gb"
_COLUMNS = ("n", "mape", "median_ape", "p90_ape", "bias")


class CatalogCalibrations:
    """The calibrations that ship, and one from a file of the user's."""

    def __init__(self, file: str | None = None, own: Accelerator | None = None) -> None:
        """Read the user's file.

        Args:
            file: A calibration file, used in place of its accelerator's own; None: only those that ship.
            own: An accelerator that is in no catalog.
        """
        self._own = own
        self._given: Mapping[str, Any] = read_calibration_file(Path(file)) if file is not None else {}
        self._file = file
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


def check_data(
    data: str,
    calibration: str | None,
    condition: Condition,
    by: str | None,
    hardware: str | None = None,
    *,
    plot: str | None,
    as_json: bool,
) -> None:
    """Check tables, print the report, draw it if wanted.

    Args:
        data: Tables.
        calibration: A file of the user's; None: those that ship.
        condition: What is predicted.
        by: Some of the report's keys, with commas: entries are summed up over the others; None: all.
        hardware: A hardware file of the user's; None: only the catalog's accelerators.
        plot: HTML file to draw.
        as_json: Print JSON.

    Raises:
        InputError: If a table is wrong.
        UnknownNameError: If a key is.
    """
    keys = [name.strip() for name in by.split(",")] if by else KEYS
    for name in keys:
        if name not in KEYS:
            raise UnknownNameError("key of the report", name, KEYS)
    if plot is not None:
        require_plotly()
    calibrations = CatalogCalibrations(calibration, load_hardware(hardware) if hardware else None)
    points = PlotData()
    visit = points.add if plot is not None else lambda checked: None
    report = check_report(data, calibrations, condition, visit, keys)
    if plot is not None:
        points.write(plot)
    if as_json:
        print(json.dumps(report))
    else:
        _print_table(report["rows"], [*keys, "tier", *_COLUMNS])
        print(f"{report['rows_read']} rows read; errors in percent")


class FitOptions(NamedTuple):
    """Options of `calibrate fit`.

    Attributes:
        families: Only these; empty: all.
        date, provenance: To write into the file.
        plot: HTML file to draw the fitted tables into; None: none.
        as_json: Print JSON.
    """

    families: frozenset[str]
    date: str
    provenance: str
    plot: str | None
    as_json: bool


def fit_file(data: str, hardware: str, out: str, options: FitOptions) -> None:
    """Fit one accelerator and write its calibration file.

    Args:
        data: Tables.
        hardware: Name, alias or YAML file.
        out: File to write.
        options: How.

    Raises:
        InputError: If a table is wrong, or holds no rows of this accelerator.
    """
    if options.plot is not None:
        require_plotly()
    accelerator = load_hardware(hardware)
    spellings = Spellings(accelerator)
    groups = read_groups(data, lambda name: accelerator if spellings(name) else None, options.families)
    fits: list[NamedFit] = []
    for group in groups:
        fits.append(_fit_and_show(group, fits, options))
    if not fits:
        raise InputError(f"the tables hold no rows of {accelerator.name} that can be fitted", file=data)
    _write(Path(out), accelerator.name, fits, options)
    if options.plot is not None:
        points = PlotData(spellings)
        check_report(data, CatalogCalibrations(out, accelerator), visit=points.add)
        points.write(options.plot)
    if options.as_json:
        entries = [_fit_entry(fit) for fit in fits]
        print(json.dumps({"accelerator": accelerator.name, "file": out, "fits": entries}))
    else:
        print(f"{len(fits)} fits of {accelerator.name} written to {out}")


def fit_all(data: str, out: str, options: FitOptions) -> None:
    """Fit every accelerator of the catalog that tables hold, and the generic tier.

    Args:
        data: Tables.
        out: Folder; one file an accelerator, and `generic.yaml`.
        options: How; no plot.
    """
    fits: dict[str, list[NamedFit]] = {}
    generic = GenericFits()
    for group in read_groups(data, find_accelerator, options.families):
        generic.add(group)
        earlier = fits.setdefault(group.accelerator.name, [])
        earlier.append(_fit_and_show(group, earlier, options))
    for name, found in sorted(fits.items()):
        _write(Path(out) / f"{name}.yaml", name, found, options)
    pooled = generic.fit()
    for fit in pooled:
        _show(fit, "generic ", options)
    _write(Path(out) / "generic.yaml", "generic", pooled, options)
    count = sum(map(len, fits.values()))
    if options.as_json:
        print(json.dumps({name: [_fit_entry(fit) for fit in found] for name, found in sorted(fits.items())}))
    else:
        print(f"{count} fits of {len(fits)} accelerators and {len(pooled)} generic ones written to {out}")


def find_accelerator(hardware: str) -> Accelerator | None:
    """Return the catalog's accelerator by a table's spelling; None if it has none."""
    try:
        return load_hardware(hardware)
    except InputError:
        return None


def _fit_and_show(group: RowGroup, earlier: list[NamedFit], options: FitOptions) -> NamedFit:
    found = group.fit(earlier)
    _show(found, f"{group.accelerator.name} ", options)
    return found


def _show(fit: NamedFit, label: str, options: FitOptions) -> None:
    if not options.as_json:
        print(label + _fit_line(fit), file=sys.stderr, flush=True)


def _write(file: Path, accelerator: str, fits: list[NamedFit], options: FitOptions) -> None:
    """Write a calibration file; with chosen families, those of an older file stay."""
    kept = read_calibration_file(file) if options.families and file.is_file() else None
    file.parent.mkdir(parents=True, exist_ok=True)
    text = format_calibration(accelerator, options.date, options.provenance, fits, kept)
    file.write_text(text, encoding="utf-8")


class Spellings:
    """Whether a table's `hardware` means an accelerator."""

    def __init__(self, accelerator: Accelerator) -> None:
        """Take its name and aliases."""
        self.names = {_squeeze(name) for name in (accelerator.name, *accelerator.aliases)}

    def __call__(self, hardware: str) -> bool:
        """Compare without regard to case, spaces, `-` and `_`."""
        return _squeeze(hardware) in self.names


def _squeeze(name: str) -> str:
    return re.sub(r"[\s_\-]+", "", name.lower())


def _fit_entry(named: NamedFit) -> dict[str, Any]:
    error = named.fit.error
    return {
        "family": named.family, "framework": named.framework, "dtype": named.dtype,
        "kv_dtype": named.kv_dtype, "variant": named.variant, "form": named.form,
        "rows": named.rows, "shapes": len(named.shapes),
        "constants": dict(named.fit.constants), "residuals": named.fit.residuals is not None,
        "error": None if error is None else error._asdict(),
    }  # fmt: skip


def _fit_line(named: NamedFit) -> str:
    error = named.fit.error
    label = " ".join(
        part for part in (named.family, named.framework, named.dtype, named.kv_dtype, named.variant) if part
    )
    stated = (
        "no error to state" if error is None else f"MAPE {error.mape:.1f} %, median {error.median_ape:.1f} %"
    )
    grid = ", with residuals" if named.fit.residuals is not None else ""
    return f"{label}: {named.rows} rows, {len(named.shapes)} shapes, {stated}{grid}"


def _print_table(entries: list[dict[str, Any]], columns: list[str]) -> None:
    cells = [columns, *([_cell(entry[name]) for name in columns] for entry in entries)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    return f"{value:.1f}" if isinstance(value, float) else str(value)
