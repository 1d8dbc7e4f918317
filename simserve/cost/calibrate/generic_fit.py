"""Fits the generic tier: one set of constants for all accelerators, each left out to state its error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from simserve.cost.calibrate.accelerator_fit import RowGroup
from simserve.cost.calibrate.files import NamedFit
from simserve.cost.calibrate.fitting import PinnedForm, Sample, fit_samples, take_sample, thin_rows
from simserve.cost.calibrate.processes import in_processes
from simserve.cost.calibrate.validation import ErrorStatistics, GroupFit, measure_errors
from simserve.cost.fitted_kernel import describe_device
from simserve.cost.kernel_calibration import rank_framework
from simserve.cost.kernels.form import Constants

# Rows of each accelerator: of its error, of the fit, and of a first fit from each start.
ROWS, FIT_ROWS, COARSE_ROWS = 800, 300, 60
Key = tuple[str, str, str, str]


class GenericFits:
    """Collects rows of all accelerators, then fits them together."""

    def __init__(self) -> None:
        """Start without rows."""
        self._groups: dict[Key, dict[str, RowGroup]] = {}

    def add(self, group: RowGroup) -> None:
        """Keep a thin sample of a group; of several frameworks on one accelerator the preferred one's."""
        if not group.family.tells_of_others(group.variant):
            return
        key = (group.family.name, group.dtype, group.kv_dtype, group.variant)
        mine = self._groups.setdefault(key, {})
        name = group.accelerator.name
        if name not in mine or rank_framework(group.framework) < rank_framework(mine[name].framework):
            mine[name] = group._replace(rows=thin_rows(group.rows, ROWS))

    def fit(self, workers: int = 1) -> Iterator[NamedFit]:
        """Fit each family, dtype and variant that two accelerators have; errors are of those left out.

        A dtype that only one accelerator has is fitted too, without an error to state.

        Args:
            workers: Processes that fit; with 1 this one does it.
        """
        shared = {key[:2] for key, groups in self._groups.items() if len(groups) > 1}
        chains: dict[str, list[list[RowGroup]]] = {}
        for key, groups in self._groups.items():
            if len(groups) > 1 or key[:2] not in shared:
                one = next(iter(groups.values()))
                takes_over = any(one.family.pins(dtype)[1] for _, dtype, _, _ in self._groups)
                name = one.family.name if takes_over else "/".join(key)
                chains.setdefault(name, []).append(list(groups.values()))
        return in_processes(_fit_in_turn, chains.values(), workers)


def _fit_in_turn(chain: Sequence[list[RowGroup]]) -> list[NamedFit]:
    """Fit the groups of one family; later ones take constants over from earlier ones."""
    found: list[NamedFit] = []
    for groups in chain:
        found.append(_fit_one(groups, found))
    return found


def _fit_one(groups: list[RowGroup], earlier: list[NamedFit]) -> NamedFit:
    first = groups[0]._replace(framework="")
    pinned = first.pinned(earlier)
    samples = [_sample(group, FIT_ROWS) for group in groups]
    coarse = [_sample(group, COARSE_ROWS) for group in groups]
    form = PinnedForm(first.family.form(first.variant), pinned)
    constants = {**fit_samples(form, samples, coarse), **pinned}
    error, left_out = _leave_out(form, groups, samples, constants) if len(groups) > 1 else (None, None)
    return NamedFit(
        family=first.family.name,
        framework="",
        dtype=first.dtype,
        kv_dtype=first.kv_dtype,
        variant=first.variant,
        form=form.name,
        rows=sum(len(group.rows) for group in groups),
        shapes=[],
        fit=GroupFit(constants, None, error),
        left_out=left_out,
    )


def _leave_out(
    form: PinnedForm, groups: list[RowGroup], samples: list[Sample], constants: Constants
) -> tuple[ErrorStatistics, dict[str, float]]:
    """Predict each accelerator's rows by constants of the others; return the error of all, and of each."""
    predicted, measured, left_out = [], [], {}
    for index, group in enumerate(groups):
        inner = fit_samples(form, [*samples[:index], *samples[index + 1 :]], (), constants)
        rows = _sample(group, ROWS)
        predicted.append(form.seconds(rows.shapes, inner, rows.device, warm=True))
        measured.append(rows.seconds)
        left_out[group.accelerator.name] = measure_errors(predicted[-1], rows.seconds).mape
    # Accelerators have about as many rows each.
    return measure_errors(np.concatenate(predicted), np.concatenate(measured)), left_out


def _sample(group: RowGroup, limit: int) -> Sample:
    dtype = group.family.compute_dtype(group.dtype, group.kv_dtype)
    return take_sample(group.rows, describe_device(group.accelerator, dtype), limit)
