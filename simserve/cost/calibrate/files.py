"""Writes calibration files: the same fits give the same bytes."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from zlib import compress, crc32

from simserve.cost.calibrate.validation import GroupFit
from simserve.cost.calibration_file import HEADER
from simserve.cost.residual_grid import ResidualGrid


class NamedFit(NamedTuple):
    """A fit and which rows it is of.

    Attributes:
        family, framework, dtype, kv_dtype, variant: The group.
        form: Name of the kernel model.
        rows: Measured rows of the group.
        shapes: Texts of its shapes.
        fit: What was found.
        left_out: Of a generic fit: MAPE of each accelerator when its rows were left out.
    """

    family: str
    framework: str
    dtype: str
    kv_dtype: str
    variant: str
    form: str
    rows: int
    shapes: Sequence[str]
    fit: GroupFit
    left_out: Mapping[str, float] | None = None


def format_calibration(
    accelerator: str,
    date: str,
    provenance: str,
    fits: Sequence[NamedFit],
    kept: Mapping[str, Any] | None = None,
    sustained: Mapping[str, float] | None = None,
) -> str:
    """Return the text of a calibration file.

    Args:
        accelerator: Catalog name, or "generic".
        date: Of the fit, as year-month-day.
        provenance: What was fitted, in words.
        fits: The new fits.
        kept: Mapping of an older file whose other families stay.
        sustained: FLOP/s that long GEMMs keep, by dtype; None or empty: those of the older file.
    """
    lists: dict[str, str] = {}
    entries = [_entry(fit, lists) for fit in fits]
    for entry in (kept or {}).get("fits", []):
        if entry["family"] not in {fit.family for fit in fits}:
            entries.append(entry)
            lists[entry["shapes"]] = (kept or {})["shape_lists"][entry["shapes"]]
    entries.sort(
        key=lambda entry: [entry[key] for key in ("family", "variant", "dtype", "kv_dtype", "framework")]
    )
    head: dict[str, object] = {"accelerator": accelerator, "date": date, "provenance": provenance}
    rates = sustained or (kept or {}).get("sustained_flops_per_s")
    if rates:
        head["sustained_flops_per_s"] = dict(rates)
    lines = [HEADER, *(f"{key}: {_flow(value)}" for key, value in head.items())]
    lines += ["fits:", *(f"- {_flow(entry)}" for entry in entries)]
    lines += ["shape_lists:", *(f"  {_flow(key)}: {_flow(lists[key])}" for key in sorted(lists))]
    return "\n".join(lines) + "\n"


def _flow(value: object) -> str:
    """Return JSON that YAML reads the same: it takes 1e-06 for a text, and 1.0e-06 for a number."""
    return re.sub(r"(?<=[ \[-])(\d)e-", r"\1.0e-", json.dumps(value, ensure_ascii=False))


def _entry(named: NamedFit, lists: dict[str, str]) -> dict[str, Any]:
    shapes = " ".join(sorted(named.shapes))
    key = f"{crc32(shapes.encode()):08x}-{len(named.shapes)}"
    lists[key] = shapes
    entry: dict[str, Any] = {
        "family": named.family,
        "framework": named.framework,
        "dtype": named.dtype,
        "kv_dtype": named.kv_dtype,
        "variant": named.variant,
        "form": named.form,
        "constants": dict(named.fit.constants),
        "rows": named.rows,
        "shapes": key,
    }
    if named.fit.error is not None:
        error = named.fit.error
        entry["error"] = {
            name: round(getattr(error, name), 2) for name in ("mape", "median_ape", "p90_ape", "bias")
        }
    if named.left_out:
        entry["left_out"] = {name: round(error, 1) for name, error in named.left_out.items()}
    if named.fit.residuals is not None:
        entry["residuals"] = encode_residuals(named.fit.residuals)
    return entry


def encode_residuals(grid: ResidualGrid) -> Mapping[str, Any]:
    """Return a grid as in the file; `decode_residuals` reads it back."""
    return {
        "axes": {
            axis.name: [int(value) if value == int(value) else float(value) for value in axis.nodes]
            for axis in grid.axes
        },
        "steps": b64encode(compress(grid.steps.tobytes(), 9)).decode(),
    }
