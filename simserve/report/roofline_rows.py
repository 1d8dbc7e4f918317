"""The rows of a step's roofline: what each operator does, takes, and could take at best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from simserve.report.flash_blocks import FlashBlock
from simserve.report.what_if import WhatIf


@dataclass(frozen=True, slots=True)
class RooflineRow:
    """One operator of a step, over all its launches and pipeline stages, on one rank of each stage.

    Attributes:
        operator: Its name.
        family: Which kernel model priced it.
        launches: Launches in the step.
        flops, moved_bytes: First-principles work.
        seconds: Priced time, launches included.
        ideal_s: Speed of light: the time at datasheet peaks, without launches.
        share: Of the step's time.
        bound: What it waits for: "compute", "bandwidth", "communication" or "overhead".
        dtype: Of its arithmetic; "" without any.
        tier: Of its calibration: "calibrated", "measured", "generic", ...
        source: Where its constants are from.
        error_percent: Their stated error; None where there is none to state.
    """

    operator: str
    family: str
    launches: int
    flops: float
    moved_bytes: float
    seconds: float
    ideal_s: float
    share: float
    bound: str
    dtype: str
    tier: str
    source: str
    error_percent: float | None

    @property
    def intensity(self) -> float | None:
        """FLOPs a byte; None for an operator that moves nothing or only messages."""
        if not self.moved_bytes or self.bound == "communication":
            return None
        return self.flops / self.moved_bytes

    @property
    def flops_per_s(self) -> float:
        """Achieved rate."""
        return self.flops / self.seconds if self.seconds else 0.0

    @property
    def speed_of_light(self) -> float | None:
        """Share of the hardware's peak that the operator reaches: `ideal_s / seconds`; None without one."""
        return self.ideal_s / self.seconds if self.seconds and self.ideal_s else None


@dataclass(frozen=True, slots=True)
class Step:
    """One step on one kind of accelerator.

    Attributes:
        rows: Its operators, in the order in which a layer runs them.
        step_s: Their sum: what the GPUs take for one step through all stages.
        peak_flops: Peak rate by dtype, in FLOP/s.
        bytes_per_s, link_bytes_per_s: Memory bandwidth, and rate of the scale-up link a direction.
    """

    rows: tuple[RooflineRow, ...]
    step_s: float
    peak_flops: Mapping[str, float]
    bytes_per_s: float
    link_bytes_per_s: float

    @property
    def roofs(self) -> dict[str, float]:
        """The peak rates of the dtypes that its operators compute in; all if none of them says."""
        used = {row.dtype for row in self.rows if row.flops}
        return {dtype: peak for dtype, peak in self.peak_flops.items() if dtype in used} or dict(
            self.peak_flops
        )

    @property
    def ideal_s(self) -> float:
        """The step at the speed of light."""
        return sum(row.ideal_s for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """Return the step as plain data; keys as in docs/reference/cli.md."""
        return {
            "step_s": self.step_s,
            "ideal_s": self.ideal_s,
            "speed_of_light": self.ideal_s / self.step_s if self.step_s else None,
            "peak_flops": dict(self.peak_flops),
            "memory_bandwidth_bytes_per_s": self.bytes_per_s,
            "link_bytes_per_s": self.link_bytes_per_s,
            "operators": [_row_dict(row) for row in self.rows],
        }


@dataclass(frozen=True, slots=True)
class Roofline:
    """What `simserve roofline` prints.

    Attributes:
        model, hardware: Catalog names.
        options: How the model is run: parallel sizes, dtypes, batch, context, prefill.
        step: On the hardware as it is.
        what_if, changed: The factors, and the step with them; None where none were asked for.
        flash_blocks: The prompt's attention by block size, the kernel's own first; () where none were asked
            for.
    """

    model: str
    hardware: str
    options: Mapping[str, Any]
    step: Step
    what_if: WhatIf | None = None
    changed: Step | None = None
    flash_blocks: tuple[FlashBlock, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data; keys as in docs/reference/cli.md."""
        result: dict[str, Any] = {"model": self.model, "hardware": self.hardware, **self.options}
        result |= self.step.as_dict()
        result["what_if"] = None
        if self.what_if is not None and self.changed is not None:
            result["what_if"] = {**asdict(self.what_if), **self.changed.as_dict()}
        if self.flash_blocks:
            result["flash_blocks"] = [asdict(block) for block in self.flash_blocks]
        return result


def _row_dict(row: RooflineRow) -> dict[str, Any]:
    return {
        "operator": row.operator,
        "family": row.family,
        "launches": row.launches,
        "flops": row.flops,
        "bytes": row.moved_bytes,
        "intensity": row.intensity,
        "bound": row.bound,
        "dtype": row.dtype,
        "seconds": row.seconds,
        "share": row.share,
        "flops_per_s": row.flops_per_s,
        "ideal_s": row.ideal_s,
        "speed_of_light": row.speed_of_light,
        "calibration": {"tier": row.tier, "source": row.source, "error_percent": row.error_percent},
    }
