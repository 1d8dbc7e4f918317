"""The form in which tables of whole steps are compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from simserve.cost.kernel_calibration import KernelCalibration

Row = dict[Any, Any]
CalibrationOf = Callable[[str], "KernelCalibration"]


def compared_rows(
    table: pd.DataFrame,
    priced: list[tuple[float, str, str]],
    seconds: np.ndarray[tuple[int], np.dtype[np.float64]],
    **columns: Any,
) -> pd.DataFrame:
    """Return a table's rows with the predictions beside them.

    Args:
        table: As measured.
        priced: Of each row the predicted seconds, the tier, and why the row is left out ("" if it is not).
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
