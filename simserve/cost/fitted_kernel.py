"""A kernel model with its constants on one accelerator: what prices the launches of a kernel family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from simserve.cost.kernels.form import Array, Constants, Device, KernelForm, Shapes
from simserve.cost.residual_grid import STEP, Axis, ResidualGrid, corners, interpolate
from simserve.devices.accelerator import Accelerator
from simserve.devices.topology import NETWORK_BYTES_PER_S

# Values of the columns that a grid has no axis for.
Kind = tuple[tuple[str, float], ...]
# Where a file does not say: no cache, and no waves.
_UNKNOWN_SMS = 1


@runtime_checkable
class BoundedForm(Protocol):
    """A form that knows what the physical peaks allow; only its residuals are used when serving."""

    def bound_seconds(self, shapes: Shapes, device: Device) -> Array:
        """Least seconds with cold caches, a row."""


@runtime_checkable
class AscendingForm(Protocol):
    """A form whose measured times do not grow with every size: NVLS is faster among 8 GPUs than among 4."""

    @property
    def ascending(self) -> tuple[str, ...]:
        """Shape columns along which time grows; without this property all of them."""


@dataclass(frozen=True, eq=False)
class FittedKernel:
    """Kernels of one family, dtype and variant on one accelerator.

    Attributes:
        form: The kernel model.
        constants: Its constants.
        device: The accelerator's peaks.
        tier: "calibrated" or "generic".
        source: Where the constants are from.
        error_percent: Stated error; None where there is none to state.
        residuals: What the form misses.
    """

    form: KernelForm
    constants: Constants
    device: Device
    tier: str
    source: str
    error_percent: float | None = None
    residuals: ResidualGrid | None = None
    _tables: dict[Kind, tuple[tuple[Axis, ...], Array]] = field(default_factory=dict, repr=False)

    def seconds(self, shapes: Shapes, warm: bool = False) -> Array:
        """Return the seconds of one launch a row.

        Args:
            shapes: The form's shape columns.
            warm: Predict a benchmark's condition (caches warm) and not serving's.
        """
        if not warm and self.residuals is not None and isinstance(self.form, BoundedForm):
            return self._corrected(shapes, self.residuals, self.form)
        plain = self.form.seconds(shapes, self.constants, self.device, warm=warm)
        return plain * self.residuals.factors(shapes) if warm and self.residuals is not None else plain

    def provenance(self, shapes: Shapes) -> tuple[str, str, float | None]:
        """Return tier, source and stated error of the times of these launches."""
        return self.tier, self.source, self.error_percent

    def _corrected(self, shapes: Shapes, grid: ResidualGrid, form: BoundedForm) -> Array:
        """Correct cold times so that they still ascend with every size and keep below the physical peaks.

        The corrected times at the grid's nodes, and at some beyond its ends, are made ascending along each
        axis (of an `AscendingForm` only along those that it names); times between nodes are
        interpolated, in logarithms.
        """
        names = {axis.name for axis in grid.axes}
        extra = [name for name in shapes if name not in names]
        result = np.empty(len(shapes[grid.axes[0].name]))
        for kind, rows in _kinds({name: shapes[name] for name in extra}, len(result)):
            axes, table = self._table(grid, kind)
            inside = {axis.name: np.asarray(shapes[axis.name], np.float64)[rows] for axis in axes}
            result[rows] = np.exp(interpolate(axes, table, inside))
        return np.maximum(result, form.bound_seconds(shapes, self.device))

    def _table(self, grid: ResidualGrid, kind: Kind) -> tuple[tuple[Axis, ...], Array]:
        """Wider axes and logarithms of ascending cold times at their nodes, for one value of the others."""
        if kind not in self._tables:
            wide = [axis.extended() for axis in grid.axes]
            axes = tuple(axis for axis, _ in wide)
            nodes = corners(axes)
            count = len(nodes[axes[0].name])
            shapes = {**nodes, **{name: np.full(count, value) for name, value in kind}}
            cold = self.form.seconds(shapes, self.constants, self.device, warm=False)
            corrections = np.pad(grid.steps, [more for _, more in wide], mode="edge") * STEP
            growing = self.form.ascending if isinstance(self.form, AscendingForm) else nodes
            table = ascend(
                np.log(cold).reshape(corrections.shape) + corrections,
                [place for place, axis in enumerate(axes) if axis.name in growing],
            )
            self._tables[kind] = (axes, table)
        return self._tables[kind]


def _kinds(columns: Mapping[str, Array], count: int) -> Iterator[tuple[Kind, Any]]:
    """Yield each different combination of values of the columns, and which rows have it."""
    if not count:
        return
    first = {name: float(values[0]) for name, values in columns.items()}
    if all((values == first[name]).all() for name, values in columns.items()):
        yield tuple(first.items()), slice(None)
        return
    stacked = np.column_stack(list(columns.values()))
    for values in np.unique(stacked, axis=0):
        yield tuple(zip(columns, values.tolist(), strict=True)), (stacked == values).all(axis=1)


def ascend(table: Array, along: Sequence[int] | None = None) -> Array:
    """Return the nearest table that ascends along axes: isotonic regression, one axis after the other.

    What one axis gained stays, since isotonic regression keeps the order of rows.

    Args:
        table: Any number of axes.
        along: Which of them; None: all.
    """
    for axis in range(table.ndim) if along is None else along:
        table = np.moveaxis(_ascend_first(np.moveaxis(table, axis, 0)), 0, axis)
    return table


def _ascend_first(table: Array) -> Array:
    """Isotonic regression along the first axis: neighbours that fall are pooled to their mean.

    Source: the pool-adjacent-violators algorithm (Barlow et al., "Statistical inference under order
    restrictions", 1972).
    """
    count = len(table)
    columns = table.reshape(count, -1)
    falling = np.flatnonzero((columns[1:] < columns[:-1]).any(axis=0))
    if not len(falling):
        return table
    result = columns.copy()
    for column in falling:
        means: list[float] = []
        sizes: list[int] = []
        for value in columns[:, column].tolist():
            size = 1
            while means and means[-1] > value:
                value = (value * size + means.pop() * sizes[-1]) / (size + sizes[-1])
                size += sizes.pop()
            means.append(value)
            sizes.append(size)
        result[:, column] = np.repeat(means, sizes)
    return result.reshape(table.shape)


def describe_device(accelerator: Accelerator, dtype: str) -> Device:
    """Return an accelerator's peaks for arithmetic in one dtype."""
    return Device(
        flops_per_s=accelerator.peak_for(dtype),
        bytes_per_s=accelerator.memory_bandwidth_bytes_per_s,
        l2_bytes=float(accelerator.l2_bytes or 0),
        sms=accelerator.sms or _UNKNOWN_SMS,
        sram_bytes=float(accelerator.sram_per_sm_bytes or 0),
        link_bytes_per_s=accelerator.link_bytes_per_s,
        link_domain=accelerator.link_domain,
        pcie_bytes_per_s=accelerator.pcie_bytes_per_s,
        network_bytes_per_s=NETWORK_BYTES_PER_S,
    )
