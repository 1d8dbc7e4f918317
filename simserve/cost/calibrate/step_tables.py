"""Tables of whole steps: what reads and prices them, and the form in which they are compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from simserve.errors import SimserveError

if TYPE_CHECKING:
    import pandas as pd

    from simserve.cost.kernel_calibration import KernelCalibration

Row = dict[Any, Any]
# Predicted seconds, the tier, and why the row is left out.
Priced = tuple[float, str, str]
CalibrationOf = Callable[[str], "KernelCalibration"]
# Modules with a tuple `STEP_TABLES`: tables of whole steps, priced and not fitted.
_MODULES = ("steps",)


class StepTable(Protocol):
    """A table of whole steps: checked against the composition of kernels, never fitted."""

    @property
    def stems(self) -> tuple[str, ...]:
        """Stems of the tables that it reads."""

    def rows(self, stem: str, table: pd.DataFrame, calibration_of: CalibrationOf) -> pd.DataFrame:
        """Return one row an input row, with the table's index.

        The columns are those of `ROW_COLUMNS` (variant and shape may be ""), and `predicted_s` (NaN where the
        row cannot be priced), `split` ("unseen" or "excluded") and `tier`.

        Args:
            stem: Of the table.
            table: As read.
            calibration_of: An accelerator's calibration by the table's spelling, with its peaks.
        """


def step_tables_of(stem: str) -> tuple[StepTable, ...]:
    """Return what prices the rows of a table of whole steps."""
    tables: list[StepTable] = []
    for module in _MODULES:
        found: tuple[StepTable, ...] = import_module(f"simserve.cost.calibrate.{module}").STEP_TABLES
        tables += [table for table in found if stem in table.stems]
    return tuple(tables)


def price_rows(rows: Iterable[Row], price: Callable[[Row], Priced]) -> list[Priced]:
    """Return of each row the predicted seconds, the tier, and why the row is left out ("" if it is not).

    Args:
        rows: As measured.
        price: Of one row; what it cannot price it raises a `SimserveError` for.
    """
    return [_price_or_tell(row, price) for row in rows]


def _price_or_tell(row: Row, price: Callable[[Row], Priced]) -> Priced:
    try:
        return price(row)
    except SimserveError as error:
        return np.nan, "", str(error)


def compared_rows(
    table: pd.DataFrame,
    priced: list[Priced],
    seconds: np.ndarray[tuple[int], np.dtype[np.float64]],
    **columns: Any,
) -> pd.DataFrame:
    """Return a table's rows with the predictions beside them.

    Args:
        table: As measured.
        priced: As of `price_rows`.
        seconds: Of each row, as measured.
        columns: What else a row says of itself.
    """
    import pandas as pd

    predicted, tiers, reasons = (list(part) for part in zip(*priced, strict=True)) if priced else ([], [], [])
    excluded = np.array(reasons, dtype=object)
    return pd.DataFrame(
        {
            "kv_dtype": "", "group": None, "variant": "", "shape": "", **columns, "seconds": seconds,
            "excluded": excluded, "predicted_s": predicted, "tier": tiers,
            "split": np.where(excluded == "", "unseen", "excluded"),
        },
        index=table.index,
    )  # fmt: skip
