"""The step timers of a pool, kept between the runs of a process.

A timer prices kernels when it is first asked, and its tables depend on nothing but what it was built from. So
the runs of a sweep or a search, most of which differ in their load, share the timers of the first of them:
building those takes longer than a small run.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from threading import local
from typing import Any, NamedTuple

from simserve.cost.build import CostSpec, ExplainableTimer, build_timers
from simserve.cost.host import HostTime
from simserve.devices.accelerator import Accelerator
from simserve.model.shape import ModelShape
from simserve.scenario.catalog import load_calibration, load_generic_calibration

# A scenario's pools and their draft models have one each; a table that grew for long batches takes megabytes.
_MOST_KEPT = 16


class _Kept(NamedTuple):
    """Timers, and the calibrations from which they were built."""

    timers: list[ExplainableTimer]
    calibration: Mapping[str, Any] | None
    generic: Mapping[str, Any] | None


class _Shelf(local):
    """What a thread has kept, the latest used last: two threads must not make the same tables grow."""

    def __init__(self) -> None:
        self.timers: OrderedDict[str, _Kept] = OrderedDict()


_shelf = _Shelf()


def find_timers(
    cost: CostSpec, shape: ModelShape, accelerator: Accelerator, host: HostTime, **options: Any
) -> list[ExplainableTimer]:
    """Return one timer a pipeline stage, with the shipped calibrations; as `build_timers`, but shared.

    Only timers of kind "analytic" are kept: measured tables may change, and the others cost nothing.

    Args:
        cost, shape, accelerator, host: As of `build_timers`.
        options: Its other keywords.

    Raises:
        InputError: As `build_timers`.
    """
    calibration, generic = load_calibration(accelerator), load_generic_calibration()
    kept, key = _shelf.timers, repr((cost, shape, accelerator, host, options))
    found = kept.get(key)
    if found is not None and found.calibration is calibration and found.generic is generic:
        kept.move_to_end(key)
        return found.timers
    timers = build_timers(
        cost, shape, accelerator, host=host, calibration=calibration, generic=generic, **options
    )
    if cost.kind == "analytic":
        kept[key] = _Kept(timers, calibration, generic)
        if len(kept) > _MOST_KEPT:
            kept.popitem(last=False)
    return timers
