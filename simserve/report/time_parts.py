"""Where the time of a run's steps went: steps on record are priced again, operator by operator.

Moments evenly spread over the time in which instances were busy are looked up in `steps.parquet`, and the
step that ran then is priced by what priced it in the run (`scenario.yaml` says what). Its operators share its
duration as they share the price, so all parts together are the busy time on record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simserve.metrics.writer import SCENARIO
from simserve.report.run_folder import Floats, Ints, RunFolder

if TYPE_CHECKING:
    from simserve.cost.operator_time import OperatorTime
    from simserve.scenario.engine_plan import EnginePlan

# Moments that are looked at, of all pools together: a share of a half is then known to 2 % (one standard
# error of a binomial share, 0.5 / sqrt(600)).
_MOMENTS = 600
_BINS = 40
_FAMILIES = {
    "gemm": "GEMMs", "moe": "experts", "elementwise": "norms, activations", "quantize": "quantization",
    "all_reduce": "collectives", "all_gather": "collectives", "reduce_scatter": "collectives",
    "all_to_all": "collectives", "host": "host",
}  # fmt: skip
OPERATORS = (
    "GEMMs", "experts", "attention of prompts", "attention of decodes", "norms, activations", "quantization",
    "collectives", "host", "step",
)  # fmt: skip
BOUNDS = ("compute", "bandwidth", "communication", "launch", "host", "step")
PHASES = ("prompts alone", "prompts and decodes", "decodes alone")
IDLE = "idle"


@dataclass(frozen=True, slots=True)
class TimeParts:
    """Where the time went.

    Attributes:
        busy_s: Seconds in which instances were busy, added up over them.
        idle_s: The other seconds of these instances, from the run's first step to its last.
        operators: Shares of the busy time by family of operators, the keys some of `OPERATORS`.
        bounds: The same by what was waited for, the keys some of `BOUNDS`: `launch` is what neither the
            accelerator's peaks nor the links explain, `step` what a stated step time does not tell.
        phases: The same by what was in the steps, `PHASES`; counted, not sampled.
        edges_s: `[bins + 1]` of simulated time.
        over_time: By family, and `IDLE`: `[bins]`, the share of all instances' time in each bin.
        moments: How many steps were priced.
        repriced: Seconds that they took when priced again, over those on record: 1 if contexts and chunks,
            which the record does not hold, were guessed well.
    """

    busy_s: float
    idle_s: float
    operators: Mapping[str, float]
    bounds: Mapping[str, float]
    phases: Mapping[str, float]
    edges_s: Floats
    over_time: Mapping[str, Floats]
    moments: int
    repriced: float


@dataclass(frozen=True, slots=True)
class _Priced:
    """A step that was priced again: when it ran, how long it took, and its operators."""

    at_s: float
    recorded_s: float
    operators: Sequence[OperatorTime]

    @property
    def seconds(self) -> float:
        return sum(row.seconds for row in self.operators)


@dataclass(frozen=True, slots=True)
class _Busy:
    """The rows of the step table without the time in which two of them overlap (pipelines)."""

    start_s: Floats
    end_s: Floats
    first_step: Ints

    @classmethod
    def of(cls, run: RunFolder) -> _Busy:
        steps = run.steps
        start_s, end_s = steps["start_s"].astype(np.float64), steps["end_s"].astype(np.float64)
        first = np.zeros(len(start_s), np.int64)
        for instance in run.instances:
            rows = run.step_rows[instance]
            start_s[rows[1:]] = np.maximum(start_s[rows[1:]], end_s[rows[:-1]])
            first[rows[1:]] = np.cumsum(steps["steps"][rows])[:-1]
        return cls(start_s, end_s, first)

    @property
    def duration_s(self) -> Floats:
        return self.end_s - self.start_s


def split_time(run: RunFolder) -> TimeParts:
    """Return where the time of a run's steps went.

    Raises:
        InputError: If a table cannot be read, or what priced the steps is not there any more.
        ScenarioError: If the scenario names code (`module:Class`), which a report does not execute, or files
            that the run's folder may not name.
    """
    from simserve.scenario.engine_build import plan_engine
    from simserve.scenario.loader import load_scenario

    scenario = load_scenario(run.path / SCENARIO, allow_imports=False, allow_files=run.allow_files)
    busy = _Busy.of(run)
    length_s = float(busy.duration_s.sum())
    found: list[_Priced] = []
    for index, pool in enumerate(run.summary["pools"]):
        rows = np.flatnonzero(np.isin(run.steps["instance"], pool["instances"]))
        rows = rows[np.argsort(busy.start_s[rows], kind="stable")]
        share = float(busy.duration_s[rows].sum()) / max(length_s, 1e-12)
        count = min(round(_MOMENTS * share), len(rows))
        if count:
            found += _price(run, plan_engine(scenario, index), busy, rows, count)
    edges_s = np.linspace(0.0, max(float(busy.end_s.max(initial=0.0)), 1e-9), _BINS + 1)
    busy_share = _busy_share(busy, edges_s, len(run.instances))
    operators, over_time = _over_time(found, edges_s, busy_share)
    whole_s = float(edges_s[-1]) * len(run.instances)
    recorded_s = sum(step.recorded_s for step in found)
    return TimeParts(
        busy_s=length_s,
        idle_s=max(whole_s - length_s, 0.0),
        operators=operators,
        bounds=_bounds(found),
        phases=_phases(run, busy),
        edges_s=edges_s,
        over_time=over_time,
        moments=len(found),
        repriced=sum(step.seconds for step in found) / max(recorded_s, 1e-12),
    )


def family_of(row: OperatorTime) -> str:
    """Return the family of an operator, one of `OPERATORS`."""
    if row.operator.endswith("_prefill"):
        return "attention of prompts"
    if row.operator.endswith("_decode"):
        return "attention of decodes"
    return _FAMILIES.get(row.family, "step")


def _price(run: RunFolder, plan: EnginePlan, busy: _Busy, rows: Ints, count: int) -> list[_Priced]:
    """Price the steps that ran at `count` moments."""
    steps = run.steps
    until = np.cumsum(busy.duration_s[rows])
    moments = (np.arange(count) + 0.5) / count * until[-1]
    places = np.searchsorted(until, moments)
    prompts = _prompts(run, rows[places], busy.first_step)
    found = []
    for place, moment, several in zip(places.tolist(), moments.tolist(), prompts.tolist(), strict=True):
        row = rows[place]
        shape = plan.step_shape(
            int(steps["decode_tokens"][row]), int(steps["prefill_tokens"][row]), int(steps["running"][row]),
            int(steps["kv_used_blocks"][row]), several,
        )  # fmt: skip
        at_s = float(busy.end_s[row] - (until[place] - moment))
        recorded_s = float(steps["end_s"][row] - steps["start_s"][row]) / max(int(steps["steps"][row]), 1)
        operators = [each for timer in plan.timers for each in timer.explain(*shape)]
        found.append(_Priced(at_s, recorded_s, operators))
    return found


def _prompts(run: RunFolder, rows: Ints, first_step: Ints) -> Ints:
    """Return how many requests had a chunk of their prompt in the first step of each of these rows."""
    spans = run.spans
    chosen = np.flatnonzero(spans["kind"] == "prefill")
    owners = run.span_rows[chosen]
    instances = run.requests["instance"][owners]
    counts = np.zeros(len(rows), np.int64)
    for instance in np.unique(run.steps["instance"][rows]):
        here = np.flatnonzero(run.steps["instance"][rows] == instance)
        mine = chosen[instances == instance]
        steps = first_step[rows[here]]
        begun = np.searchsorted(np.sort(spans["first_step"][mine]), steps, side="right")
        counts[here] = begun - np.searchsorted(np.sort(spans["last_step"][mine]), steps, side="left")
    return counts


def _over_time(
    found: list[_Priced], edges_s: Floats, busy_share: Floats
) -> tuple[dict[str, float], dict[str, Floats]]:
    """Return each family's share of the busy time, and of all time in each bin."""
    binned = {name: np.zeros(_BINS) for name in OPERATORS}
    counted = np.zeros(_BINS)
    for step in found:
        place = min(int(np.searchsorted(edges_s, step.at_s, side="right")) - 1, _BINS - 1)
        counted[place] += 1
        for row in step.operators:
            binned[family_of(row)][place] += row.seconds / step.seconds
    names = [name for name in OPERATORS if binned[name].any()]
    whole = {name: float(binned[name].sum() / max(len(found), 1)) for name in names}
    # A bin that no moment fell into has the mix of the whole run.
    over_time = {
        name: np.where(counted > 0, binned[name] / np.maximum(counted, 1), whole[name]) * busy_share
        for name in names
    }
    return whole, over_time | {IDLE: 1 - busy_share}


def _bounds(found: list[_Priced]) -> dict[str, float]:
    shares = dict.fromkeys(BOUNDS, 0.0)
    for step in found:
        total = step.seconds * len(found)
        for row in step.operators:
            overhead = {"host": "host", "step": "step"}.get(family_of(row), "launch")
            shares[overhead] += row.overhead_s / total
            if row.seconds > row.overhead_s:
                shares[row.bound] += (row.seconds - row.overhead_s) / total
    return {name: share for name, share in shares.items() if share}


def _phases(run: RunFolder, busy: _Busy) -> dict[str, float]:
    prompts = run.steps["prefill_tokens"] > 0
    prompts &= _prompts(run, np.arange(len(prompts)), busy.first_step) > 0
    # Drafts that are verified are on record as tokens of a prefill.
    decodes = (run.steps["decode_tokens"] > 0) | ~prompts
    duration_s = busy.duration_s
    total = max(float(duration_s.sum()), 1e-12)
    chosen = (prompts & ~decodes, prompts & decodes, ~prompts)
    return {name: float(duration_s[rows].sum()) / total for name, rows in zip(PHASES, chosen, strict=True)}


def _busy_share(busy: _Busy, edges_s: Floats, instances: int) -> Floats:
    """Return `[bins]` the share of all instances' time in which they were busy."""

    def until(edges: Floats, times: Floats) -> Floats:
        """Seconds that lie between each of `times` and each edge after it, added up."""
        ordered = np.sort(times)
        before = np.concatenate(([0.0], np.cumsum(ordered)))
        place = np.searchsorted(ordered, edges, side="right")
        return np.asarray(edges * place - before[place])

    passed = until(edges_s, busy.start_s) - until(edges_s, busy.end_s)
    wide = np.diff(edges_s) * max(instances, 1)
    return np.asarray(np.clip(np.diff(passed) / wide, 0.0, 1.0))
