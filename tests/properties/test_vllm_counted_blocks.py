"""Schedulers that do not observe only count private blocks: the real logs still come out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from random_loads import Load, golden_loads

from simserve import registry
from simserve.conformance.golden import GoldenLog
from simserve.errors import SimulationError
from simserve.scheduler.batch import Batch
from simserve.testing.harness import drive


@pytest.mark.parametrize(
    "jump", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["bulk", "stepwise"]
)
def test_every_iteration_of_the_real_logs_has_the_same_tokens_queues_and_memory(
    data_dir: Path, jump: bool
) -> None:
    for log, load in golden_loads(data_dir):
        assert _iterations(log, load, jump) == _expected(log), log.name


def _iterations(log: GoldenLog, load: Load, jump: bool) -> dict[int, tuple[int, ...]]:
    """Tokens, running, waiting, free blocks and cached hashes after each schedule()."""
    scheduler = registry.lookup("engine", "vllm")(load.config, jump=jump)
    seen: dict[int, tuple[int, ...]] = {}

    def note(iteration: int, batch: Batch | None) -> None:
        tokens = batch.prefill_tokens + batch.decodes if batch else 0
        queues = (len(scheduler.running), len(scheduler.waiting), scheduler.pool.num_free)
        cached = scheduler.num_cached if load.config.enable_prefix_caching else 0
        seen[iteration] = (tokens, *queues, cached)

    def run(limit: int) -> Any:
        return drive(
            scheduler,
            load.config,
            load.arrivals_by_iteration(),
            aborts=load.aborts_by_iteration(),
            max_iterations=limit,
            observer=note,
            arrival_orders={request.id: request.arrival_time for request in log.requests},
        )

    if all(row["reason"] for row in log.results):
        run(log.iterations + 1)
    else:
        with pytest.raises(SimulationError):  # the real scheduler hangs here
            run(log.iterations)
    return seen


def _expected(log: GoldenLog) -> dict[int, tuple[int, ...]]:
    alive = 0
    expected: dict[int, tuple[int, ...]] = {}
    arrivals: dict[int, int] = {}
    for request in log.requests:
        arrivals[request.arrival] = arrivals.get(request.arrival, 0) + 1
    for step in log.steps:
        alive += sum(count for at, count in list(arrivals.items()) if at <= step["i"])
        arrivals = {at: count for at, count in arrivals.items() if at > step["i"]}
        alive -= len(step.get("abort", ()))
        if "s" in step and alive:  # else only the report of finished ids
            tokens = sum(entry[1] for entry in step["s"])
            expected[step["i"]] = (tokens, step["nr"], step["nw"], step["free"], step.get("nc", 0))
        alive -= len(step.get("u", {}).get("fin", ()))
    return expected
