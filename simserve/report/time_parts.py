"""Where the time of a run's steps went, from its folder (see `simserve.metrics.time_parts`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from simserve.errors import InputError
from simserve.metrics.time_parts import BOUNDS, OPERATORS, PHASES, SPLITS
from simserve.metrics.writer import TIME_PARTS
from simserve.report.run_folder import Floats, RunFolder, Table

__all__ = ["BOUNDS", "IDLE", "OPERATORS", "PHASES", "TimeParts", "split_time"]

IDLE = "idle"


@dataclass(frozen=True, slots=True)
class TimeParts:
    """Where the time went.

    Attributes:
        busy_s: Seconds in which instances were busy, added up over them.
        idle_s: The other seconds of these instances, from the run's start to its last step.
        operators: Shares of the busy time by family of operators, the keys some of `OPERATORS`.
        bounds: The same by what was waited for, the keys some of `BOUNDS`: `launch` is what neither the
            accelerator's peaks nor the links explain, `step` what a stated step time does not tell.
        phases: The same by what was in the steps, `PHASES`; counted, not sampled.
        edges_s: `[intervals + 1]` of simulated time.
        over_time: By family, and `IDLE`: `[intervals]`, the share of all instances' time in each.
        repriced: Seconds that the sampled steps took when priced again, over those on record: 1 if contexts
            and chunks, which the record does not hold, were guessed well.
    """

    busy_s: float
    idle_s: float
    operators: Mapping[str, float]
    bounds: Mapping[str, float]
    phases: Mapping[str, float]
    edges_s: Floats
    over_time: Mapping[str, Floats]
    repriced: float


def split_time(run: RunFolder) -> TimeParts:
    """Return where the time of a run's steps went.

    Raises:
        InputError: If the folder does not tell, or the table cannot be read.
    """
    path = run.path / TIME_PARTS
    if not path.is_file():
        raise InputError(
            f"the folder has no {TIME_PARTS}: an earlier version of simserve wrote it; run its scenario again"
        )
    table = Table(path)
    seconds = {split: _by_part(table, split) for split in SPLITS}
    busy_s = sum(seconds["phases"].values())
    edges_s = np.unique(np.concatenate(([0.0], table["start_s"], table["end_s"])))
    over_time = _over_time(table, edges_s, max(len(run.instances), 1))
    sample = seconds["sample"]
    return TimeParts(
        busy_s=busy_s,
        idle_s=max(float(edges_s[-1]) * len(run.instances) - busy_s, 0.0),
        operators=_shares(seconds["operators"]),
        bounds=_shares(seconds["bounds"]),
        phases=_shares(seconds["phases"]),
        edges_s=edges_s,
        over_time=over_time,
        repriced=sample.get("priced again", 0.0) / max(sample.get("on record", 0.0), 1e-12),
    )


def _by_part(table: Table, split: str) -> dict[str, float]:
    """Return the seconds of each part of a split, in the order of `SPLITS`, without those of none."""
    rows = table["split"] == split
    found = {name: float(table["seconds"][rows & (table["part"] == name)].sum()) for name in SPLITS[split]}
    return {name: seconds for name, seconds in found.items() if seconds}


def _shares(seconds: Mapping[str, float]) -> dict[str, float]:
    total = max(sum(seconds.values()), 1e-12)
    return {name: part / total for name, part in seconds.items()}


def _over_time(table: Table, edges_s: Floats, instances: int) -> dict[str, Floats]:
    """Return each family's share of all instances' time in each interval, and what is left idle."""
    wide_s = np.diff(edges_s) * instances
    shares = {}
    for name in _by_part(table, "operators"):
        rows = (table["split"] == "operators") & (table["part"] == name)
        shares[name] = np.zeros(len(wide_s))
        shares[name][np.searchsorted(edges_s, table["start_s"][rows])] = table["seconds"][rows]
        shares[name] /= wide_s
    return shares | {IDLE: np.clip(1 - sum(shares.values(), np.zeros(len(wide_s))), 0, 1)}
