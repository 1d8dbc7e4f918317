"""Records what one engine of a scenario decides, as a decision log that a replay can compare with."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from simserve.cluster.cluster import Cluster
from simserve.conformance.decision_config import encode_config
from simserve.conformance.decision_log import DecisionLog
from simserve.conformance.decision_replay import LoggedScheduler, build_scheduler
from simserve.errors import InputError
from simserve.scenario.engine_build import plan_engine
from simserve.scenario.engine_kind import takes_options
from simserve.scenario.schema import Scenario
from simserve.scheduler.batch import Batch
from simserve.simulation import simulate


class _LogFullError(Exception):
    """The log has as many steps as were asked for."""


class _Recorder(LoggedScheduler):
    """Ends the simulation when its log is full."""

    def __init__(self, scheduler: Any, log: DecisionLog, steps: int) -> None:
        super().__init__(scheduler, log)
        self._left = steps

    def schedule(self, now_ns: int = 0) -> Batch | None:
        if not self._left:
            raise _LogFullError
        batch = super().schedule(now_ns)
        self._left -= batch is not None
        return batch


def record_decisions(scenario: Scenario, *, steps: int = 200, engine: int = 0) -> DecisionLog:
    """Simulate a scenario and keep the calls and answers of one engine's scheduler.

    Args:
        scenario: What to simulate.
        steps: Steps to record at most; the simulation ends with the last one.
        engine: Number of the engine, as in the `instance` column of the results.

    Raises:
        InputError: If there is no such engine, or a log cannot hold its options.
    """
    logs: list[DecisionLog] = []

    def watch(cluster: Cluster) -> None:
        for index, pool in enumerate(cluster.pools):
            for instance in pool.instances:
                for each in instance.engines:
                    if each.index == engine:
                        logs.append(_attach(scenario, index, each, steps))

    with suppress(_LogFullError):
        simulate(scenario, jump=False, watch=watch)
    if not logs:
        raise InputError(f"no engine {engine} in the scenario; expected a number below that of its engines")
    return logs[0]


def _attach(scenario: Scenario, pool: int, engine: Any, steps: int) -> DecisionLog:
    """Give an engine a scheduler that logs."""
    plan = plan_engine(scenario, pool)
    options = dict(plan.engine.options) if takes_options(plan.engine) else {}
    log = DecisionLog(scenario.name, plan.engine.kind, options, encode_config(plan.config))
    scheduler = build_scheduler(log.kind, plan.config, options)
    engine.scheduler = _Recorder(scheduler, log, steps)
    return log
