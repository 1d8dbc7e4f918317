"""What `simserve calibrate` does: finds accelerators and their files, fits, checks, prints."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from simserve.cost.calibrate.accelerator_fit import RowGroup, fit_groups, read_groups
from simserve.cost.calibrate.checking import KEYS, Condition, check_report
from simserve.cost.calibrate.files import NamedFit, format_calibration
from simserve.cost.calibrate.generic_fit import GenericFits
from simserve.cost.calibrate.plots import PlotData, require_plotly
from simserve.cost.calibrate.sustained import SustainedRates
from simserve.errors import InputError, UnknownNameError
from simserve.scenario.calibrations import CatalogCalibrations, Spellings, find_accelerator
from simserve.scenario.catalog import load_hardware, read_calibration_file

_COLUMNS = ("n", "mape", "median_ape", "p90_ape", "bias")


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
        workers: Processes that fit.
    """

    families: frozenset[str]
    date: str
    provenance: str
    plot: str | None
    as_json: bool
    workers: int = 1


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
    if Path(out).is_dir():
        raise InputError("is a folder; expected the file to write", file=out)
    accelerator = load_hardware(hardware)
    spellings = Spellings(accelerator)
    sustained = SustainedRates()
    found = read_groups(data, lambda name: accelerator if spellings(name) else None, options.families)
    groups = _shown_to((sustained,), found)
    fits: list[NamedFit] = []
    for name, fit in fit_groups(groups, options.workers):
        _show(fit, f"{name} ", options)
        fits.append(fit)
    if not fits:
        raise InputError(f"the tables hold no rows of {accelerator.name} that can be fitted", file=data)
    _write(Path(out), accelerator.name, fits, options, sustained.of(accelerator.name))
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

    Raises:
        InputError: If a table is wrong, or `out` is a file.
    """
    if Path(out).is_file():
        raise InputError("is a file; expected the folder to write into", file=out)
    fits: dict[str, list[NamedFit]] = {}
    generic, sustained = GenericFits(), SustainedRates()
    groups = _shown_to((generic, sustained), read_groups(data, find_accelerator, options.families))
    for name, fit in fit_groups(groups, options.workers):
        _show(fit, f"{name} ", options)
        fits.setdefault(name, []).append(fit)
    for name, found in sorted(fits.items()):
        _write(Path(out) / f"{name}.yaml", name, found, options, sustained.of(name))
    pooled: list[NamedFit] = []
    for fit in generic.fit(options.workers):
        _show(fit, "generic ", options)
        pooled.append(fit)
    _write(Path(out) / "generic.yaml", "generic", pooled, options)
    count = sum(map(len, fits.values()))
    if options.as_json:
        print(json.dumps({name: [_fit_entry(fit) for fit in found] for name, found in sorted(fits.items())}))
    else:
        print(f"{count} fits of {len(fits)} accelerators and {len(pooled)} generic ones written to {out}")


class Collector(Protocol):
    """What wants to see every group of rows."""

    def add(self, group: RowGroup) -> None:
        """Take note of one."""


def _shown_to(collectors: Sequence[Collector], groups: Iterable[RowGroup]) -> Iterator[RowGroup]:
    """Yield groups as they come, shown to each collector first."""
    for group in groups:
        for collector in collectors:
            collector.add(group)
        yield group


def _show(fit: NamedFit, label: str, options: FitOptions) -> None:
    if not options.as_json:
        print(label + _fit_line(fit), file=sys.stderr, flush=True)


def _write(
    file: Path,
    accelerator: str,
    fits: list[NamedFit],
    options: FitOptions,
    sustained: Mapping[str, float] | None = None,
) -> None:
    """Write a calibration file; with chosen families, those of an older file stay."""
    kept = read_calibration_file(file) if options.families and file.is_file() else None
    text = format_calibration(accelerator, options.date, options.provenance, fits, kept, sustained)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", file=str(file)) from error


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
