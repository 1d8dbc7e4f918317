"""The calibration file of an accelerator, `hardware/calibration/NAME.yaml`: reading its fits.

As the tool writes it, the file is YAML with one fit a line in JSON, which is read ten times faster than YAML.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zlib import decompress

import numpy as np

from simserve.cost.residual_grid import Axis, ResidualGrid
from simserve.errors import InputError

HEADER = (
    "# Written by `simserve calibrate fit`: a fit a line; errors in percent, cross-validated over shapes."
)


@dataclass(frozen=True, slots=True)
class Fit:
    """One entry of a calibration file's `fits`.

    Attributes:
        family, framework, dtype, kv_dtype, variant: Which rows it was fitted on.
        form: Name of the kernel model.
        constants: Of the form.
        rows: How many measured rows there were.
        shapes: Texts of the fitted shapes.
        error: Cross-validated over shapes, in percent: mape, median_ape, p90_ape, bias; may be empty.
        residuals: As in the file, or None; see `decode_residuals`.
    """

    family: str
    framework: str
    dtype: str
    kv_dtype: str
    variant: str
    form: str
    constants: Mapping[str, float]
    rows: int
    shapes: str
    error: Mapping[str, float]
    residuals: Mapping[str, Any] | None


def parse_lines(text: str) -> dict[str, Any] | None:
    """Read a file as the tool writes it; None if it has another form, which is for a YAML reader."""
    if not text.startswith(HEADER):
        return None
    content: dict[str, Any] = {"fits": [], "shape_lists": {}}
    try:
        for line in text.splitlines()[1:]:
            if line.startswith("- "):
                content["fits"].append(json.loads(line[2:]))
            elif line.startswith("  "):
                key, _, value = line.strip().partition(": ")
                content["shape_lists"][json.loads(key)] = json.loads(value)
            elif not line.endswith(":"):
                key, _, value = line.partition(": ")
                content[key] = json.loads(value)
    except ValueError:
        return None
    return content


def read_fits(content: Mapping[str, Any], file: str | None = None) -> list[Fit]:
    """Read the `fits` of a calibration file's mapping.

    Raises:
        InputError: If a key is missing or wrong; names the entry.
    """
    entries = content.get("fits") or []
    lists = content.get("shape_lists") or {}
    if not isinstance(entries, list) or not isinstance(lists, Mapping):
        raise InputError("fits: expected a list of fits, and shape_lists a mapping", file=file)
    return [_read_fit(entry, lists, f"fits.{index}", file) for index, entry in enumerate(entries)]


def read_sustained(content: Mapping[str, Any], file: str | None = None) -> dict[str, float]:
    """Read `sustained_flops_per_s` of a calibration file's mapping: by dtype; empty where it has none.

    Raises:
        InputError: If it is no mapping of numbers above 0.
    """
    rates = _numbers(content.get("sustained_flops_per_s") or {}, "sustained_flops_per_s", file)
    for dtype, rate in rates.items():
        if rate <= 0:
            raise InputError(f"sustained_flops_per_s.{dtype}: expected FLOP/s above 0, got {rate}", file=file)
    return rates


def _read_fit(entry: object, lists: Mapping[str, Any], place: str, file: str | None) -> Fit:
    if not isinstance(entry, Mapping):
        raise InputError(f"{place}: expected a mapping, got {entry!r}", file=file)
    texts = {}
    for key in ("family", "framework", "dtype", "kv_dtype", "variant", "form"):
        texts[key] = entry.get(key, "")
        if not isinstance(texts[key], str) or (key in ("family", "form") and not texts[key]):
            raise InputError(f"{place}.{key}: expected a text, got {texts[key]!r}", file=file)
    return Fit(
        **texts,
        constants=_numbers(entry.get("constants"), f"{place}.constants", file),
        rows=int(entry.get("rows") or 0),
        shapes=str(lists.get(str(entry.get("shapes")), "")),
        error=_numbers(entry.get("error") or {}, f"{place}.error", file),
        residuals=entry.get("residuals"),
    )


def _numbers(content: object, place: str, file: str | None) -> dict[str, float]:
    if not isinstance(content, Mapping):
        raise InputError(f"{place}: expected a mapping of numbers, got {content!r}", file=file)
    for key, value in content.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
            raise InputError(f"{place}.{key}: expected a number, got {value!r}", file=file)
    return {str(key): float(value) for key, value in content.items()}


def decode_residuals(content: Mapping[str, Any], file: str | None = None) -> ResidualGrid:
    """Read a grid: `{axes: {column: [values]}, steps: base64 of the deflated bytes}`.

    Raises:
        InputError: If it is no such mapping.
    """
    try:
        axes = tuple(
            Axis(str(name), np.array(nodes, dtype=np.float64)) for name, nodes in content["axes"].items()
        )
        shape = [len(axis.nodes) for axis in axes]
        steps = np.frombuffer(decompress(b64decode(content["steps"])), dtype=np.int8).reshape(shape)
    except Exception as error:
        raise InputError(f"residuals: expected axes and steps ({error})", file=file) from error
    return ResidualGrid(axes, steps)
