"""Fits a form's constants to measured rows: robust regression of log ratios, bounded, from several starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

import numpy as np

from simserve.cost.calibrate.family import MAX_ROWS, ROW_COLUMNS
from simserve.cost.kernels.form import Array, Constants, Device, KernelForm, Parameter, Shapes

if TYPE_CHECKING:
    import pandas as pd

# A first, coarse fit from each of some starts tells which is best.
COARSE_ROWS = 400
STARTS = 4
# Most steps of a search, and the relative change of its cost and constants that ends it: of a coarse fit, of
# one from the best start, and of one that begins near its end, as that of a fold. With 40 steps and 1e-8 for
# all of them the mean error of no family's fits changes by 0.1 points, at twice the time; with fewer steps
# folds would stay near the fit of all shapes, and flatter the error.
_COARSE, _FULL, _NEAR = (15, 1e-3), (40, 1e-4), (12, 1e-4)
# A constant that the rows say nothing of stays where it starts: its distance from there, as a share of its
# range, counts like a log ratio this much smaller.
PRIOR = 0.01
# Log ratios well beyond this hardly count any more (Cauchy's loss): rows of another kernel behind the same
# name, and slips of a benchmark.
SOFT_SCALE = 0.1
# A constant whose bounds lie further apart than this is searched over its logarithm.
_LOG_SPAN = 5.0


class Sample(NamedTuple):
    """Rows to fit.

    Attributes:
        shapes: The form's columns.
        seconds: Measured.
        weights: Of each row's log ratio.
        device: The peaks of the accelerator that they were measured on.
    """

    shapes: Mapping[str, Array]
    seconds: Array
    weights: Array
    device: Device


def take_sample(rows: pd.DataFrame, device: Device, limit: int = MAX_ROWS) -> Sample:
    """Choose at most about `limit` rows, as `thin_rows` does; all shapes weigh the same."""
    chosen = thin_rows(rows, limit)
    counts = chosen.groupby("shape", observed=True)["seconds"].transform("size").to_numpy(dtype=np.float64)
    weights = np.sqrt(counts.mean() / counts)
    return Sample(shape_columns(chosen), chosen["seconds"].to_numpy(np.float64), weights, device)


def thin_rows(rows: pd.DataFrame, limit: int) -> pd.DataFrame:
    """Keep at most about `limit` rows, as many of each shape as of any other, spread over its times."""
    order = rows.sort_values(["shape", "seconds"], kind="stable")
    position = order.groupby("shape", observed=True).cumcount().to_numpy()
    size = order.groupby("shape", observed=True)["seconds"].transform("size").to_numpy()
    quota = _quota(size[position == 0], limit)
    # Of `size` rows, those where the count of `quota` evenly spread marks goes up.
    keep = (position * quota) // size != ((position - 1) * quota) // size
    keep |= size <= quota
    chosen: pd.DataFrame = order[keep]
    return chosen


def _quota(sizes: Array, limit: int) -> int:
    """Rows of each shape, so that all together are about `limit`; at least 1."""
    low, high = 1, int(sizes.max())
    while low < high:
        middle = (low + high + 1) // 2
        if int(np.minimum(sizes, middle).sum()) <= limit:
            low = middle
        else:
            high = middle - 1
    return low


def shape_columns(rows: pd.DataFrame) -> dict[str, Array]:
    """Return a family's shape columns as arrays."""
    return {
        str(name): rows[name].to_numpy(dtype=np.float64) for name in rows.columns if name not in ROW_COLUMNS
    }


@dataclass(frozen=True)
class PinnedForm:
    """A form some of whose constants are known, so that a fit leaves them alone.

    Attributes:
        form: The kernel model.
        pinned: The known constants.
    """

    form: KernelForm
    pinned: Constants

    @property
    def name(self) -> str:
        """The form's name."""
        return self.form.name

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The constants that are still to be found."""
        return tuple(p for p in self.form.parameters if p.name not in self.pinned)

    def seconds(self, shapes: Shapes, constants: Constants, device: Device, *, warm: bool) -> Array:
        """The form's seconds; see `KernelForm.seconds`."""
        return self.form.seconds(shapes, {**constants, **self.pinned}, device, warm=warm)


def fit_constants(
    form: KernelForm,
    rows: pd.DataFrame,
    device: Device,
    start: Constants | None = None,
    limit: int = MAX_ROWS,
) -> Constants:
    """Fit a form's constants to the rows of one accelerator.

    Args:
        form: The kernel model.
        rows: Of one group, none of them excluded.
        device: Its peaks.
        start: A good guess, as of a fit on most of the same rows: then the only start.
        limit: About how many rows to fit.

    Returns:
        A value for each parameter of the form, rounded to 6 digits.
    """
    coarse = [take_sample(rows, device, COARSE_ROWS)] if start is None else []
    return fit_samples(form, [take_sample(rows, device, limit)], coarse, start)


def fit_samples(
    form: KernelForm, samples: Sequence[Sample], coarse: Sequence[Sample], start: Constants | None = None
) -> Constants:
    """Fit one set of constants to the samples of one accelerator or of several.

    Args:
        form: The kernel model.
        samples: To fit.
        coarse: Fewer rows of the same, to choose among several starts.
        start: The only start, if given.
    """
    search = _Search(form)
    if start is None:
        guesses = [search.solve(coarse, guess, *_COARSE) for guess in search.starts(STARTS)]
        best = min(guesses, key=lambda guess: search.cost(coarse, guess))
    else:
        best = search.encode(start)
    found = search.solve(samples, best, *(_FULL if start is None else _NEAR))
    return {name: float(f"{value:.6g}") for name, value in search.decode(found).items()}


class _Search:
    """One form's constants as a vector, wide ranges by their logarithm."""

    def __init__(self, form: KernelForm) -> None:
        self.form = form
        self.logarithmic = [p.low > 0 and p.high / p.low > _LOG_SPAN for p in form.parameters]
        self.first = self.encode({p.name: p.start for p in form.parameters})
        self.low, self.high = self._bounds()
        self.span = self.high - self.low

    def encode(self, constants: Constants) -> Array:
        return np.array(
            [
                np.log(np.clip(constants[p.name], p.low, p.high))
                if log
                else np.clip(constants[p.name], p.low, p.high)
                for p, log in zip(self.form.parameters, self.logarithmic, strict=True)
            ]
        )

    def decode(self, vector: Array) -> dict[str, float]:
        return {
            p.name: min(max(float(np.exp(x)) if log else float(x), p.low), p.high)
            for p, log, x in zip(self.form.parameters, self.logarithmic, vector, strict=True)
        }

    def starts(self, count: int) -> list[Array]:
        """The parameters' own start, then points drawn from their bounds, the same in every run."""
        rng = np.random.default_rng(crc32(self.form.name.encode()))
        # Half-way between the start and anywhere: far corners only waste evaluations.
        others = (0.5 * self.first + 0.5 * rng.uniform(self.low, self.high) for _ in range(count - 1))
        return [self.first, *others]

    def residuals(self, samples: Sequence[Sample], vector: Array) -> Array:
        constants = self.decode(vector)
        errors = []
        for sample in samples:
            predicted = self.form.seconds(sample.shapes, constants, sample.device, warm=True)
            errors.append(np.log(np.maximum(predicted, 1e-12) / sample.seconds) * sample.weights)
        count = sum(map(len, errors))
        return np.concatenate([*errors, (vector - self.first) / self.span * PRIOR * np.sqrt(count)])

    def cost(self, samples: Sequence[Sample], vector: Array) -> float:
        return float(np.abs(self.residuals(samples, vector)).mean())

    def solve(self, samples: Sequence[Sample], start: Array, evaluations: int, tolerance: float) -> Array:
        from scipy.optimize import least_squares

        if not len(start):
            return start
        inner = np.clip(start, self.low + 1e-6 * self.span, self.high - 1e-6 * self.span)
        found = least_squares(
            lambda vector: self.residuals(samples, vector), inner, bounds=(self.low, self.high),
            x_scale=self.span,
            diff_step=1e-4, loss="cauchy", f_scale=SOFT_SCALE, max_nfev=evaluations,
            ftol=tolerance, xtol=tolerance,
        )  # fmt: skip
        return np.asarray(found.x)

    def _bounds(self) -> tuple[Array, Array]:
        def bound(parameter: Parameter, value: float, log: bool) -> float:
            return float(np.log(value)) if log else value

        pairs = list(zip(self.form.parameters, self.logarithmic, strict=True))
        low = np.array([bound(p, p.low, log) for p, log in pairs])
        high = np.array([bound(p, p.high, log) for p, log in pairs])
        return low, high
