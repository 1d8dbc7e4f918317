"""A sweep's results as a table: its axes, its figures, its points, and where their runs are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from dashboard.folders import label_of, roots
from simserve import InputError, RunFolder

if TYPE_CHECKING:
    import pandas as pd

_BEFORE = ("point", "seed")
_IDENTITY = re.compile(r"[0-9a-f]{8,64}")


def read_sweep(folder: Path) -> pd.DataFrame:
    """Return a sweep's results, a row a point.

    Raises:
        InputError: If they cannot be read, are no sweep's, or outside of the dashboard's folders.
    """
    import pandas as pd
    import pyarrow as pa

    path = folder / "results.parquet"
    label_of(path)
    try:
        table = pd.read_parquet(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"cannot be read: {error}", file=str(path)) from error
    if not {*_BEFORE, "identity", "status", "reason"} <= set(table.columns):
        raise InputError("holds no sweep; expected what `simserve sweep` writes", file=str(folder))
    return _without_unobserved(table)


def _without_unobserved(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table without TPOTs of points in which each request got all its tokens at once: no speed."""
    columns = [name for name in table.columns if name.split("_")[1:2] == ["tpot"]]
    if "mean_tpot_ms" not in columns or "mean_itl_ms" not in table.columns:
        return table
    at_once = (table["mean_tpot_ms"] == 0) & table["mean_itl_ms"].isna()
    return table.assign(**{name: table[name].mask(at_once) for name in columns})


def axes_of(table: pd.DataFrame) -> list[str]:
    """Return the keys that were swept: the columns before the identity."""
    columns = list(table.columns)
    return [name for name in columns[: columns.index("identity")] if name not in _BEFORE]


def figures_of(table: pd.DataFrame) -> list[str]:
    """Return the figures that have a number for some point."""
    columns = list(table.columns)
    figures = columns[columns.index("status") + 1 :]
    numbers = table[figures].select_dtypes("number")
    return [name for name in numbers.columns if numbers[name].notna().any()]


def bases_of(table: pd.DataFrame) -> dict[str, str | None]:
    """Return what throughput can be related to: a label, and the column it is divided by."""
    known = {"in all": None, "per GPU": "accelerators", "per USD/hour": "usd_per_hour"}
    return {
        label: column
        for label, column in known.items()
        if column is None or (column in table.columns and table[column].notna().any())
    }


def point_folder(sweep: Path, identity: str) -> Path:
    """Return the folder of a point's run.

    Raises:
        InputError: If that is no name of a point, or leads out of the dashboard's folders.
    """
    if not _IDENTITY.fullmatch(identity):
        raise InputError(f"names a point {identity!r}, which is no identity", file=str(sweep))
    folder = sweep / "points" / identity
    label_of(folder)
    return folder


def target_of(folder: Path, table: pd.DataFrame, latency: str) -> float | None:
    """Return the target that the first point's scenario has for a latency, in ms.

    None if it has none, or its run cannot be read.
    """
    parts = latency.split("_")
    for identity in table["identity"].head(1):
        try:
            run = RunFolder.read(point_folder(folder, identity), allow_files=roots())
        except InputError:
            return None
        slo = run.scenario.get("slo") or {}
        target_s = slo.get(f"{parts[1]}_s") if len(parts) > 1 else None
        return None if target_s is None else float(target_s) * 1e3
    return None


def same_settings(table: pd.DataFrame, identity: str) -> pd.DataFrame:
    """Return the points with the settings of one of them: itself and its other seeds; none without it."""
    axes = axes_of(table)
    chosen = table.loc[table["identity"] == identity, axes].astype(str)
    return table[table[axes].astype(str).eq(chosen.iloc[0]).all(axis=1)] if len(chosen) else table[:0]


def merge_seeds(table: pd.DataFrame, figures: list[str]) -> pd.DataFrame:
    """Return a row for each setting: the means over its seeds, and how far they reach.

    Args:
        table: Of points that have results.
        figures: Columns of numbers; `NAME:least` and `NAME:most` stand beside each.

    Returns:
        The axes, the identity of the first seed's run, "seeds" (how many), and the figures.
    """
    axes = axes_of(table)
    found = {"identity": ("identity", "first"), "seeds": ("seed", "size")}
    for name in figures:
        found |= {name: (name, "mean"), f"{name}:least": (name, "min"), f"{name}:most": (name, "max")}
    return table.groupby(axes, sort=False, dropna=False).agg(**found).reset_index()
