"""`validate`: simulate what a real server ran, and compare with what it measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from simserve.cluster.recorder import Progress
from simserve.cost.host import HostProfile
from simserve.cost.host_profiles import host_profile
from simserve.engine.profile import load_profile
from simserve.metrics.result import Result
from simserve.scenario.schema import Cost, Scenario
from simserve.simulation import simulate
from simserve.study.bench_result import read_bench_result
from simserve.study.comparison import (
    KOLMOGOROV_BOUND,
    Deviation,
    Figure,
    compare,
    kolmogorov_distance,
    mean_absolute_errors,
    without_first,
)
from simserve.study.measured import MEASURED_FILE, Measured, check_rows, read_measured
from simserve.study.run_file import RUN_FILE, RunFacts, RunFile, read_run_file
from simserve.study.run_scenario import build_scenario, notes_on
from simserve.study.run_workload import build_workload
from simserve.study.served import Served, read_served
from simserve.study.step_fit import StepFit, fit_steps
from simserve.study.step_gaps import SeenSteps, see_steps
from simserve.units import seconds_to_ns
from simserve.workload.client import Client
from simserve.workload.workload import Workload

# A server's first requests carry compilation and other warm-up; figures are told with and without them.
WARM_UP_REQUESTS = 200


class ServerConstants(NamedTuple):
    """The constants that are set by whole runs.

    Attributes:
        exposed_s: Of the host profile (`cost.host.HostProfile`).
        front_end_s: Of the engine profile (`engine.profile.EngineProfile`).
    """

    exposed_s: float
    front_end_s: float

    @classmethod
    def of(cls, version: str) -> ServerConstants:
        """Return those of a release's profiles."""
        profile = load_profile(version)
        return cls(host_profile(profile.host).exposed_s, profile.front_end_s)


class ServedAt(NamedTuple):
    """Where latencies count from, what is added to them, and the host in place of the release's own."""

    queued: bool
    front_end_s: float
    host: HostProfile | None


@dataclass(frozen=True, eq=False)
class Validation:
    """A run, measured and simulated.

    Attributes:
        name: Of the run.
        measured, served: Both sides, with the same requests in the same order.
        result: The simulation.
        front_end_s: Constant time of client and server added to each latency.
        notes: What was assumed or left out.
    """

    name: str
    measured: Measured
    served: Served
    result: Result
    front_end_s: float
    notes: tuple[str, ...]

    def figures(self) -> dict[str, Figure]:
        """Return every figure of the whole run."""
        return compare(self.measured.latencies, self.served.latencies)

    def later_figures(self) -> dict[str, Figure] | None:
        """Return the same without the first requests; None if there are no others."""
        if len(self.measured) <= WARM_UP_REQUESTS:
            return None
        sides = (self.measured.latencies, self.served.latencies)
        return compare(*(without_first(side, WARM_UP_REQUESTS) for side in sides))

    def deviations(self) -> dict[str, Deviation]:
        """Return how far single requests are off."""
        return mean_absolute_errors(self.measured.latencies, self.served.latencies)

    def kolmogorov(self) -> float | None:
        """Return the Kolmogorov distance of the two distributions of E2EL."""
        return kolmogorov_distance(self.measured.latencies.e2el_s, self.served.latencies.e2el_s)

    def verdicts(self) -> dict[str, bool | None]:
        """Return whether each figure is within its bound; None for what was not measured."""
        found: dict[str, bool | None] = {name: figure.holds for name, figure in self.figures().items()}
        distance = self.kolmogorov()
        found["kolmogorov_e2el"] = None if distance is None else distance <= KOLMOGOROV_BOUND
        return found

    def client_lags_s(self) -> dict[str, float]:
        """Return how long after its due time the client sent a request, on average, on both sides."""
        sides = {"measured": self.measured.latencies, "simulated": self.served.latencies}
        return {name: float((side.start_s - side.due_s).mean()) for name, side in sides.items()}

    def step_fits(self) -> dict[str, StepFit | None]:
        """Return what a step costs on both sides, read off the requests, the first ones left out."""
        skip = WARM_UP_REQUESTS if len(self.measured) > 2 * WARM_UP_REQUESTS else 0
        tokens = self.measured.prompt_tokens
        sides = {"measured": self.measured.latencies, "simulated": self.served.latencies}
        return {name: fit_steps(side, tokens, skip) for name, side in sides.items()}

    def seen_steps(self) -> dict[str, list[SeenSteps]]:
        """Return, for both sides, the steps that can be seen one by one; empty lists where none can."""
        fits = self.step_fits()
        sides = {"measured": self.measured.latencies, "simulated": self.served.latencies}
        return {name: see_steps(side, fits[name]) for name, side in sides.items()}

    def as_dict(self) -> dict[str, Any]:
        """Return all figures in the form of `simserve validate --json`."""
        later = self.later_figures()
        return {
            "run": self.name,
            "requests": len(self.measured),
            "failed": self.served.failed,
            "preemptions": self.served.preemptions,
            "metrics": {name: figure.as_dict() for name, figure in self.figures().items()},
            f"metrics_without_first_{WARM_UP_REQUESTS}": (
                None if later is None else {name: figure.as_dict() for name, figure in later.items()}
            ),
            "mean_absolute_error": {name: each._asdict() for name, each in self.deviations().items()},
            "kolmogorov_e2el": self.kolmogorov(),
            "verdicts": self.verdicts(),
            "bounds": {
                **{name: figure.bound._asdict() for name, figure in self.figures().items()},
                "kolmogorov_e2el": KOLMOGOROV_BOUND,
            },
            "mean_client_lag_s": self.client_lags_s(),
            "step_fit": {name: fit and fit.as_dict() for name, fit in self.step_fits().items()},
            "seen_steps": {
                name: [each.as_dict() for each in seen] for name, seen in self.seen_steps().items()
            },
            "front_end_s": self.front_end_s,
            "calibration": self.result.calibration,
            "notes": list(self.notes),
        }


def validate_run(
    folder: str | Path,
    cost: Mapping[str, Any] | None = None,
    *,
    constants: ServerConstants | None = None,
    facts: RunFacts | None = None,
    progress: Progress | None = None,
) -> Validation:
    """Simulate a measured run and return both sides.

    Args:
        folder: Of the run: `run.yaml`, `measured.csv.gz` and perhaps a file of block hashes.
        cost: The scenario's `cost` section; None for the analytic one.
        constants: In place of those of the release's profiles.
        facts: In place of those of `run.yaml`: what if the server had been another?
        progress: As of `simulate`.

    Raises:
        InputError: If something in the folder is wrong, or the run cannot be simulated.
    """
    run, measured = read_run(Path(folder))
    run = run.with_facts(facts or run.facts)
    facts = run.facts
    path = run.path.parent / MEASURED_FILE
    scenario = build_scenario(run, str(path), dict(cost or {"kind": "analytic"}))
    prefixes = None if facts.prefix_file is None else run.path.parent / facts.prefix_file
    client = Client(max_concurrency=facts.client_max_concurrency)
    load = build_workload(measured, path, prefixes, client)
    given = constants or ServerConstants.of(facts.engine_version)
    host = replace(host_profile(load_profile(facts.engine_version).host), exposed_s=given.exposed_s)
    queued = facts.latency_from == "queued"
    served_at = ServedAt(queued, 0.0 if queued else given.front_end_s, host)
    return _validate(scenario.name, scenario, load, measured, served_at, notes_on(facts), progress)


def validate_result(
    result: str | Path,
    scenario: Scenario,
    cost: Mapping[str, Any] | None = None,
    *,
    progress: Progress | None = None,
) -> Validation:
    """Simulate what `vllm bench serve --save-detailed` sent, on the servers of a scenario.

    Args:
        result: The benchmark's JSON: requests, sent when it sent them, and their latencies.
        scenario: The servers, and the client's limits; its other requests are not used.
        cost: In place of the scenario's `cost` section.
        progress: As of `simulate`.

    Raises:
        InputError: If something in the result is wrong, or the scenario cannot work.
    """
    path = Path(result)
    measured, notes = read_bench_result(path)
    if cost is not None:
        scenario = scenario.model_copy(update={"cost": Cost.model_validate(cost)})
    limits = scenario.workload.client
    timeout_ns = None if limits.timeout_s is None else seconds_to_ns(limits.timeout_s)
    load = build_workload(measured, path, None, Client(limits.max_concurrency, timeout_ns))
    served_at = ServedAt(False, load_profile(scenario.pools[0].engine.version).front_end_s, None)
    return _validate(path.name, scenario, load, measured, served_at, notes, progress)


def read_run(folder: Path) -> tuple[RunFile, Measured]:
    """Return the facts and the rows of a run's folder. Raises InputError."""
    run = read_run_file(folder / RUN_FILE)
    path = folder / MEASURED_FILE
    measured = read_measured(path, queued=run.facts.latency_from == "queued")
    check_rows(measured, run.facts.requests, path)
    return run, measured


def _validate(
    name: str,
    scenario: Scenario,
    load: Workload,
    measured: Measured,
    served_at: ServedAt,
    notes: list[str],
    progress: Progress | None,
) -> Validation:
    result = simulate(scenario, workload=load, progress=progress, host=served_at.host)
    added_s = served_at.front_end_s
    served = read_served(result, measured.latencies.due_s, queued=served_at.queued, overhead_s=added_s)
    return Validation(name, measured, served, result, added_s, (*notes, *result.warnings))
