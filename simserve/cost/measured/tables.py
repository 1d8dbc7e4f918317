"""Measured tables of the user's own, in the columns that `simserve calibrate` reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simserve.cost.kernels.form import Array, Shapes
from simserve.cost.measured.interpolation import interpolate_inside
from simserve.devices.accelerator import Accelerator
from simserve.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Axes:
    """How a family's shape columns are used; what is in neither follows from the dtype or from these.

    Attributes:
        swept: Interpolated over, outermost first.
        met: To be met exactly.
    """

    swept: tuple[str, ...]
    met: tuple[str, ...]


_HEADS = ("heads", "kv_heads", "head_dim")
AXES = {
    "gemm": Axes(("m",), ("n", "k")),
    "decode_attention": Axes(("batch", "kv_len"), (*_HEADS, "window")),
    "prefill_attention": Axes(("kv_prefix", "batch", "q_len"), (*_HEADS, "window")),
    "mixed_attention": Axes(("kv_prefill", "n_decode", "kv_decode", "prefill_chunk"), _HEADS),
    "mla": Axes(("kv_prefix", "batch", "q_len"), ("heads",)),
    "moe": Axes(("tokens",), ("hidden", "inter", "topk", "experts", "moe_tp", "moe_ep", "skew")),
    "elementwise": Axes(("tokens",), ("width", "bytes")),
    "communication": Axes(("bytes",), ("ranks", "across")),
}
# Which framework's rows are used where several measured one shape: as for fitted constants.
FRAMEWORKS = ("vllm", "sglang", "trtllm")
# Digits by which columns that must be met exactly are compared: bytes an element are fractions.
_DIGITS = 6

Key = tuple[str, str, str, str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class _Points:
    """Measurements of one shape by one kernel: coordinates over the swept columns, and seconds."""

    coordinates: Array
    seconds: Array


# The kernels that measured one shape, by variant, best framework first.
_Kernels = dict[str, _Points]


class MeasuredTables:
    """Times from tables of one accelerator: a `MeasuredSource`.

    Attributes:
        name: The files that it was read from.
        rows: How many of their rows are used.
    """

    def __init__(self, name: str, points: Mapping[Key, _Kernels]) -> None:
        self.name = name
        self.rows = sum(len(one.seconds) for kernels in points.values() for one in kernels.values())
        self._points = points

    def seconds(
        self, family: str, dtype: str, kv_dtype: str, variants: Sequence[str], shapes: Shapes
    ) -> Array:
        """Seconds a row, interpolated in logarithms; NaN outside the tables. See `MeasuredSource`."""
        result = np.full(len(next(iter(shapes.values()))), np.nan)
        axes = AXES.get(family)
        if axes is None or any(name not in shapes for name in (*axes.swept, *axes.met)):
            return result
        wanted = np.column_stack([np.asarray(shapes[name], np.float64) for name in axes.swept])
        keys = _exact_keys(shapes, axes)
        different, which = np.unique(keys, axis=0, return_inverse=True)
        operation = _operation(family, variants[0])
        for number, key in enumerate(different):
            kernels = self._points.get((family, operation, dtype, kv_dtype, tuple(key.tolist())), {})
            rows = which.reshape(-1) == number
            for variant in (*variants, *kernels):
                if variant in kernels:
                    points = kernels[variant]
                    result[rows] = interpolate_inside(points.coordinates, points.seconds, wanted[rows])
                    break
        return result


def _operation(family: str, variant: str) -> str:
    """Return what variants must share to stand for each other: different kernels do the same work."""
    if family == "communication":
        return variant.split("/")[0]
    if family == "mla":
        return variant.split("/")[-1]
    return variant if family == "mixed_attention" else ""


def read_measured_tables(paths: Iterable[Path], accelerator: Accelerator) -> MeasuredTables:
    """Read tables (files, or folders of them) and keep the rows of one accelerator.

    Args:
        paths: Parquet or CSV files named as their family's tables (gemm.csv, attn_decode.parquet, ...).
        accelerator: Rows count if their column `hardware` is one of its names.

    Raises:
        InputError: If a file or a row is wrong, no family reads a file that was named, or no row is of the
            accelerator.
    """
    from simserve.cost.calibrate.families import families_of
    from simserve.cost.calibrate.tables import read_tables

    points: dict[Key, _Kernels] = {}
    seen: set[str] = set()
    files: list[str] = []
    for path in paths:
        for table in read_tables(path):
            families = families_of(table.stem)
            if not families and path.is_dir():
                continue
            if not families:
                raise InputError(f"no kernel family reads a table named {table.stem!r}", file=table.file)
            files.append(Path(table.file).name)
            for family in families:
                rows = family.rows(table.stem, table.frame)
                seen.update(map(str, rows["hardware"].unique()))
                mine = rows[_is_of(rows, accelerator)]
                mine = mine[mine["excluded"].astype(str) == ""]
                if family.name in AXES:
                    points.update(_collect(family.name, mine, AXES[family.name]))
    if not points:
        message = f"no row of {accelerator.name} in the measured tables; they hold {', '.join(sorted(seen))}"
        raise InputError(message, file=", ".join(files))
    return MeasuredTables(f"tables {', '.join(files)}", points)


def _is_of(rows: pd.DataFrame, accelerator: Accelerator) -> pd.Series[bool]:
    names = {_squeeze(name) for name in (accelerator.name, *accelerator.aliases)}
    spelled = rows["hardware"].astype(str)
    matching = [name for name in spelled.unique() if _squeeze(name) in names]
    return spelled.isin(matching)


def _squeeze(name: str) -> str:
    return name.lower().replace(" ", "").replace("-", "").replace("_", "")


def _exact_keys(shapes: Shapes, axes: Axes) -> Array:
    """Return the columns to be met, [rows, columns]; bytes are compared a token where tokens are swept."""
    found = [np.zeros(len(next(iter(shapes.values()))))]
    for name in axes.met:
        values = np.nan_to_num(np.asarray(shapes[name], np.float64), nan=-1.0)
        if name == "skew":
            # Independent choices (below 0) are as even as a table's balanced ones, on average.
            values = np.maximum(values, 0.0)
        found.append(values / shapes["tokens"] if name == "bytes" and "tokens" in axes.swept else values)
    return np.asarray(np.round(np.column_stack(found), _DIGITS), np.float64)


def _collect(family: str, rows: pd.DataFrame, axes: Axes) -> dict[Key, _Kernels]:
    """Group the rows of a family by what must be met exactly, then by variant; the best framework wins."""
    if rows.empty:
        return {}
    shapes = {name: rows[name].to_numpy(np.float64) for name in (*axes.swept, *axes.met)}
    keys = _exact_keys(shapes, axes)
    labels = [rows[name].astype(str).to_numpy() for name in ("dtype", "kv_dtype", "variant", "framework")]
    coordinates = np.column_stack([shapes[name] for name in axes.swept])
    seconds = rows["seconds"].to_numpy(np.float64)
    groups: dict[Key, dict[tuple[tuple[int, str], str], list[int]]] = {}
    for row, (dtype, kv_dtype, variant, framework) in enumerate(zip(*labels, strict=True)):
        key = (family, _operation(family, variant), dtype, kv_dtype, tuple(keys[row].tolist()))
        groups.setdefault(key, {}).setdefault((_rank(framework), variant), []).append(row)
    result: dict[Key, _Kernels] = {}
    for key, kernels in groups.items():
        for (_, variant), chosen in sorted(kernels.items()):
            points = _Points(coordinates[chosen], seconds[chosen])
            result.setdefault(key, {}).setdefault(variant, points)
    return result


def _rank(framework: str) -> tuple[int, str]:
    return (FRAMEWORKS.index(framework) if framework in FRAMEWORKS else len(FRAMEWORKS), framework)
