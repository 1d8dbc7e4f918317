"""Compares measured tables with the model, row by row, and sums the errors up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from simserve.cost.calibrate.families import families_of
from simserve.cost.calibrate.family import Family
from simserve.cost.calibrate.fitting import shape_columns
from simserve.cost.calibrate.step_tables import step_tables_of
from simserve.cost.calibrate.tables import Table, dtype_column, read_tables, text_column
from simserve.cost.calibrate.validation import measure_errors, predict_unseen
from simserve.cost.fitted_kernel import FittedKernel
from simserve.cost.kernel_calibration import KernelCalibration
from simserve.cost.kernels.form import Array
from simserve.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

KEYS = ["hardware", "framework", "dtype", "kv_dtype", "op", "group", "size", "split"]
# What is told of the rows of one entry: every value that occurs.
NOTES = ["tier", "reason"]
# Upper ends of the size bins by measured seconds.
SIZES = ((20e-6, "lt20us"), (200e-6, "lt200us"), (np.inf, "ge200us"))
_OPERATOR_COLUMNS = ("op", "kernel")


class Condition(Enum):
    """What a check predicts."""

    # A benchmark that repeats a kernel: its operands may stay in the L2 cache.
    WARM = auto()
    # Serving: they come from memory.
    COLD = auto()
    # The benchmark, each row from fits on other shapes, in folds.
    UNSEEN = auto()


class Calibrations(Protocol):
    """Where the checks find an accelerator's calibration."""

    def of(self, hardware: str) -> KernelCalibration:
        """Return it by the table's spelling; a stand-in's, all generic, for an unknown name."""


class Checked:
    """The rows of one table, priced.

    Attributes:
        table: As read.
        rows: A row an input row: the columns of `KEYS` and `NOTES`, `shape`, `measured_s` and `predicted_s`
            (NaN where there is none).
    """

    def __init__(self, table: Table, rows: pd.DataFrame) -> None:
        self.table = table
        self.rows = rows


def check_tables(
    data: str | Path, calibrations: Calibrations, condition: Condition = Condition.WARM
) -> Iterator[Checked]:
    """Price every row of every table; tables one at a time, since they are large.

    Args:
        data: A folder of tables, or one table.
        calibrations: Where the constants are.
        condition: What is predicted.

    Raises:
        InputError: If a table is wrong; names the file and the row.
    """
    for table in read_tables(data):
        yield Checked(table, _check_table(table, calibrations, condition))


def _check_table(table: Table, calibrations: Calibrations, condition: Condition) -> pd.DataFrame:
    import pandas as pd

    parts = []
    taken = np.zeros(len(table.frame), bool)
    for family in families_of(table.stem):
        rows = family.rows(table.stem, table.frame)
        places = rows.index.to_numpy()
        if taken[places].any():
            raise InputError(f"two families claim a row ({family.name})", file=table.file)
        taken[places] = True
        parts.append(_price_rows(family, rows, calibrations, condition))
    for steps in step_tables_of(table.stem):
        rows = steps.rows(table.stem, table.frame, calibrations.of)
        taken[rows.index.to_numpy()] = True
        parts.append(_describe(rows, rows["predicted_s"].to_numpy(np.float64)))
    rest = table.frame[~taken]
    if len(rest) or not parts:
        parts.append(_unread_rows(table, rest))
    return pd.concat(parts) if len(parts) > 1 else parts[0]


def _price_rows(
    family: Family, rows: pd.DataFrame, calibrations: Calibrations, condition: Condition
) -> pd.DataFrame:

    predicted = np.full(len(rows), np.nan)
    tier = np.full(len(rows), "", dtype=object)
    seen = np.zeros(len(rows), bool)
    groups = rows.groupby(["hardware", "framework", "dtype", "kv_dtype", "variant"], observed=True, sort=True)
    for group, places in groups.indices.items():
        hardware, framework, dtype, kv_dtype, variant = map(str, cast("tuple[object, ...]", group))
        calibration = calibrations.of(hardware)
        key = (family.name, dtype, kv_dtype, (variant,), framework)
        kernel = calibration.kernel(*key)
        part = rows.iloc[places]
        with np.errstate(all="ignore"):
            predicted[places] = kernel.seconds(shape_columns(part), warm=condition is not Condition.COLD)
        tier[places] = kernel.tier
        fit = calibration.find_fit(*key)
        if fit is None or kernel.tier != "calibrated":
            continue
        if condition is Condition.UNSEEN:
            _predict_unseen(family, variant, dtype, part, np.asarray(places), kernel, predicted)
        else:
            seen[places] = part["shape"].isin(set(fit.shapes.split())).to_numpy()
    result = rows.assign(tier=tier)
    result["split"] = np.where(
        rows["excluded"].to_numpy() != "", "excluded", np.where(seen, "seen", "unseen")
    )
    return _describe(result, predicted)


def _predict_unseen(
    family: Family,
    variant: str,
    dtype: str,
    part: pd.DataFrame,
    places: npt.NDArray[np.intp],
    kernel: FittedKernel,
    predicted: Array,
) -> None:
    """Replace the predictions of a group's usable rows by those of fits on other shapes, in `predicted`."""
    usable = (part["excluded"] == "").to_numpy()
    rows = part[usable]
    if rows["shape"].nunique() > 1:
        pinned = {name: kernel.constants[name] for name in family.pins(dtype)[1]}
        found = predict_unseen(family, variant, rows, kernel.device, kernel.constants, pinned=pinned)
        predicted[places[usable]] = found[0]


def _describe(rows: pd.DataFrame, predicted: Array) -> pd.DataFrame:
    """Bring rows into the columns of `Checked.rows`."""
    measured = rows["seconds"].to_numpy(np.float64)
    sizes = np.select([measured < end for end, _ in SIZES], [name for _, name in SIZES], SIZES[-1][1])
    keys = ["hardware", "framework", "dtype", "kv_dtype", "op", "group", "split", "tier", "shape"]
    return rows[keys].assign(
        size=sizes,
        reason=rows["excluded"].where(rows["split"] == "excluded", ""),
        measured_s=measured,
        predicted_s=predicted,
    )


def _unread_rows(table: Table, rest: pd.DataFrame) -> pd.DataFrame:
    """Rows that no family reads: counted, and told why they are not priced."""
    import pandas as pd

    def text(*names: str) -> pd.Series[str]:
        for name in names:
            if name in rest.columns:
                return dtype_column(rest, name) if name.endswith("dtype") else text_column(rest, name)
        return text_column(rest, names[0], default="")

    operator = text(*_OPERATOR_COLUMNS).astype(str)
    return pd.DataFrame(
        {
            "hardware": text("hardware"), "framework": text("framework", "engine"), "dtype": text("dtype"),
            "kv_dtype": text("kv_dtype"),
            "op": np.where(operator == "", table.stem, table.stem + "/" + operator), "group": None,
            "split": "excluded", "tier": "", "shape": "", "size": SIZES[-1][1],
            "reason": "the model has no kernel for this table", "measured_s": np.nan, "predicted_s": np.nan,
        },
        index=rest.index,
    )  # fmt: skip


def summarise(checked: Checked, by: Sequence[str] = KEYS) -> list[dict[str, Any]]:
    """Return the rows of the JSON report of one table, with errors in percent.

    Args:
        checked: The table's rows, priced.
        by: What tells entries apart: some of `KEYS`.
    """
    rows = checked.rows
    result = []
    keys = rows[[*by]].astype(object).fillna("")
    for key, places in keys.groupby([*by], sort=True).indices.items():
        part = rows.iloc[places]
        values = cast("tuple[object, ...]", key if isinstance(key, tuple) else (key,))
        entry: dict[str, Any] = {name: str(value) or None for name, value in zip(by, values, strict=True)}
        for name in NOTES:
            entry[name] = ", ".join(sorted({str(value) for value in part[name].unique()} - {""})) or None
        predicted, measured = (part[name].to_numpy(np.float64) for name in ("predicted_s", "measured_s"))
        usable = np.isfinite(predicted) & np.isfinite(measured) & (measured > 0)
        errors = measure_errors(predicted[usable], measured[usable]) if usable.any() else None
        entry["n"] = len(part)
        for name in ("mape", "median_ape", "p90_ape", "bias"):
            entry[name] = round(getattr(errors, name), 3) if errors else None
        result.append(entry)
    return result


def check_report(
    data: str | Path,
    calibrations: Calibrations,
    condition: Condition = Condition.WARM,
    visit: Callable[[Checked], None] = lambda checked: None,
    by: Sequence[str] = KEYS,
) -> dict[str, Any]:
    """Check tables and return the JSON report: `{"rows": [...], "rows_read": n}`.

    Args:
        data, calibrations, condition: As of `check_tables`.
        visit: Called with each table's rows, as for a plot.
        by: As of `summarise`.
    """
    entries: list[dict[str, Any]] = []
    count = 0
    for checked in check_tables(data, calibrations, condition):
        visit(checked)
        entries += summarise(checked, by)
        count += len(checked.table.frame)
    return {"rows": entries, "rows_read": count}
