"""Whether passing stretches at once gives what stepping through them gives: bit for bit."""

from __future__ import annotations

from simserve.cluster.cluster import Cluster
from simserve.engine.loop import EngineLoop
from simserve.errors import IntegrityError
from simserve.metrics.result import Result
from simserve.scenario.schema import Scenario
from simserve.simulation import simulate

# (step, end, decodes, prefill tokens, used blocks, cached blocks, waiting) of every step, a list an engine.
Trace = list[list[tuple[int, ...]]]


def check_jumps(scenario: Scenario) -> Result:
    """Simulate a scenario with jumps and step by step, and compare everything that they record.

    Returns:
        The result, which is that of both.

    Raises:
        IntegrityError: If a step, a request or a figure differs: `horizon`, `forecast` or `advance` of the
            scheduler promises more than it keeps.
    """
    jumped, jumped_steps = run_traced(scenario, jump=True)
    stepped, stepped_steps = run_traced(scenario, jump=False)
    for index, (first, second) in enumerate(zip(jumped_steps, stepped_steps, strict=True)):
        for one, other in zip(first, second, strict=False):
            if one != other:
                raise IntegrityError(f"engine {index} with jumps: step {one}; step by step: {other}")
        if len(first) != len(second):
            raise IntegrityError(f"engine {index}: {len(first)} steps with jumps, {len(second)} without")
    for column in jumped.requests.__dataclass_fields__:
        if getattr(jumped.requests, column) != getattr(stepped.requests, column):
            raise IntegrityError(f"with jumps the requests differ in {column}")
    if jumped.steps != stepped.steps:
        raise IntegrityError("with jumps the logs of steps differ")
    if jumped.summary != stepped.summary:
        raise IntegrityError("with jumps the summaries differ")
    return jumped


def run_traced(scenario: Scenario, *, jump: bool) -> tuple[Result, Trace]:
    """Simulate, and return the result with every step of every engine; integrity is checked when stepping."""
    traces: Trace = []

    def watch(cluster: Cluster) -> None:
        for instance in cluster.instances:
            ranks: tuple[EngineLoop, ...] = tuple(getattr(instance, "ranks", ()))
            for engine in ranks or (instance,):
                trace: list[tuple[int, ...]] = []
                engine.trace = trace  # type: ignore[union-attr]
                traces.append(trace)

    return simulate(scenario, jump=jump, check=not jump, watch=watch), traces
