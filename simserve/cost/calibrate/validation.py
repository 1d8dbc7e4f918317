"""Cross-validation over shapes, never over rows: what a fit is worth on shapes that it never saw."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

import numpy as np

from simserve.cost.calibrate.family import Family
from simserve.cost.calibrate.fitting import PinnedForm, fit_constants, shape_columns
from simserve.cost.calibrate.residuals import fit_residuals
from simserve.cost.kernels.form import Array, Constants, Device, Shapes
from simserve.cost.residual_grid import ResidualGrid

if TYPE_CHECKING:
    import pandas as pd

FOLDS = 5
NOTHING: Constants = MappingProxyType({})
# Residuals are kept where they lower the cross-validated error by at least this share of it.
WORTH_KEEPING = 0.03


class ErrorStatistics(NamedTuple):
    """Errors of predictions, in percent.

    Attributes:
        rows: How many.
        mape, median_ape, p90_ape: Of absolute errors relative to the measurement.
        bias: Mean signed error; above 0 predicts too slow.
    """

    rows: int
    mape: float
    median_ape: float
    p90_ape: float
    bias: float


class GroupFit(NamedTuple):
    """The fit of one group of rows.

    Attributes:
        constants: Of the form.
        residuals: None where they do not help, or the family has none.
        error: By cross-validation over shapes; None with fewer than two shapes.
    """

    constants: Constants
    residuals: ResidualGrid | None
    error: ErrorStatistics | None


def measure_errors(predicted: Array, measured: Array) -> ErrorStatistics:
    """Compare predicted with measured seconds."""
    signed = (predicted / measured - 1) * 100
    errors = np.abs(signed)
    return ErrorStatistics(
        len(errors),
        float(errors.mean()),
        float(np.median(errors)),
        float(np.quantile(errors, 0.9)),
        float(signed.mean()),
    )


def fold_of(shapes: pd.Series[str], folds: int = FOLDS) -> Array:
    """Return the fold of each row: all rows of a shape are in one, whatever else is in the table."""
    names = sorted({str(name) for name in shapes.unique()}, key=lambda name: (crc32(name.encode()), name))
    place = {name: float(index % folds) for index, name in enumerate(names)}
    return np.array([place[str(name)] for name in shapes], dtype=np.float64)


def fit_group(
    family: Family,
    variant: str,
    rows: pd.DataFrame,
    device: Device,
    *,
    pinned: Constants = NOTHING,
    folds: int = FOLDS,
) -> GroupFit:
    """Fit the constants and the residuals of a group, and state their error.

    Args:
        family: Whose rows these are.
        variant: Their variant.
        rows: Of one hardware, framework, dtype, KV dtype and variant; none excluded.
        device: Its peaks.
        pinned: Constants that are known already.
        folds: How many parts the shapes are split into; 0 states no error and keeps no residuals.
    """
    form = family.form(variant)
    found = {**fit_constants(PinnedForm(form, pinned), rows, device, limit=family.max_rows), **pinned}
    constants = {parameter.name: found[parameter.name] for parameter in form.parameters}
    if not folds or rows["shape"].nunique() < 2:
        return GroupFit(constants, None, None)
    predicted, with_residuals = predict_unseen(
        family, variant, rows, device, constants, pinned=pinned, folds=folds
    )
    error = measure_errors(predicted, rows["seconds"].to_numpy(np.float64))
    residuals = _residuals(family, variant, rows, constants, device) if with_residuals else None
    return GroupFit(constants, residuals, error)


def predict_unseen(
    family: Family,
    variant: str,
    rows: pd.DataFrame,
    device: Device,
    constants: Constants,
    *,
    pinned: Constants = NOTHING,
    folds: int = FOLDS,
) -> tuple[Array, bool]:
    """Predict each row from a fit on the other folds' shapes.

    Args:
        family, variant, rows, device, pinned, folds: As of `fit_group`.
        constants: Fitted to all rows; where the folds' fits begin.

    Returns:
        Seconds, warm, and whether they are corrected by residuals: they are if that lowers the error.
    """
    form, corrects = PinnedForm(family.form(variant), pinned), bool(family.residual_axes(variant))
    fold = fold_of(rows["shape"], folds)
    measured = rows["seconds"].to_numpy(np.float64)
    plain, corrected = np.empty(len(rows)), np.empty(len(rows))
    for part in np.unique(fold):
        train, mine = rows[fold != part], fold == part
        inner = fit_constants(form, train, device, constants, family.max_rows)
        columns = shape_columns(rows[mine])
        plain[mine] = form.seconds(columns, inner, device, warm=True)
        if corrects:
            grid = _residuals(family, variant, train, {**inner, **pinned}, device, columns)
            corrected[mine] = plain[mine] * grid.factors(columns)
    if not corrects:
        return plain, False
    limit = (1 - WORTH_KEEPING) * measure_errors(plain, measured).mape
    helps = measure_errors(corrected, measured).mape <= limit
    return (corrected if helps else plain), helps


def _residuals(
    family: Family,
    variant: str,
    rows: pd.DataFrame,
    constants: Constants,
    device: Device,
    wanted: Shapes | None = None,
) -> ResidualGrid:
    columns = shape_columns(rows)
    predicted = family.form(variant).seconds(columns, constants, device, warm=True)
    ratios = np.log(rows["seconds"].to_numpy(np.float64) / predicted)
    noise = family.residual_shrinkage(variant)
    return fit_residuals(family.residual_axes(variant), columns, ratios, noise, wanted)
