"""One operator's share of a step, as timers tell of it."""

from __future__ import annotations

from typing import NamedTuple

BOUNDS = ("compute", "bandwidth", "communication", "overhead")


class OperatorTime(NamedTuple):
    """One operator's share of a step.

    Attributes:
        operator: Its name.
        launches: Launches in the step.
        flops, moved_bytes: Of all launches, on one rank.
        seconds: Of all launches, overhead included.
        overhead_s: The part of `seconds` that neither the peak rates nor the links explain.
        bound: What the rest of it waits for: one of `BOUNDS`.
        family: Kernel family ("gemm", "decode_attention", "all_reduce", "host", ...).
        dtype: Dtype of its arithmetic, a key of `Accelerator.peak_flops`.
        ideal_s: Seconds of all launches at the datasheet's peaks.
        tier, source, error_percent: What its constants rest on, and the stated error of that.
    """

    operator: str
    launches: int
    flops: float
    moved_bytes: float
    seconds: float
    overhead_s: float
    bound: str
    family: str = ""
    dtype: str = ""
    ideal_s: float = 0.0
    tier: str = ""
    source: str = ""
    error_percent: float | None = None
