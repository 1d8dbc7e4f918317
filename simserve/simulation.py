"""`simulate(scenario)`: builds the cluster that a scenario describes, runs it, and returns the record."""

from __future__ import annotations

import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from simpy import Environment, Event
from simpy.core import StopSimulation

from simserve.cluster.cluster import AnyInstance, Cluster, PoolState
from simserve.cluster.recorder import Progress
from simserve.metrics.prefix_table import find_held
from simserve.metrics.result import Result
from simserve.metrics.run_info import measure_run
from simserve.metrics.slo import SloTargets
from simserve.metrics.summary import Window
from simserve.scenario.checks import check_scenario
from simserve.scenario.dump import dump_scenario
from simserve.scenario.engine_build import plan_engine
from simserve.scenario.engine_plan import EnginePlan
from simserve.scenario.instance_build import build_instance
from simserve.scenario.own_policies import naming_own_policies
from simserve.scenario.schema import Scenario, Slo
from simserve.scenario.workload_build import build_workload

if TYPE_CHECKING:
    from pathlib import Path

    from simserve.cost.host import HostProfile
    from simserve.workload.workload import Workload


def simulate(
    scenario: Scenario,
    *,
    progress: Progress | None = None,
    check: bool = False,
    jump: bool = True,
    watch: Callable[[Cluster], None] | None = None,
    workload: Workload | None = None,
    host: HostProfile | None = None,
) -> Result:
    """Run a scenario to its end, or until it is interrupted (then the result is marked partial).

    Args:
        scenario: What to simulate.
        progress: Called now and then with (simulated ns, ended requests, all requests).
        check: Check the KV bookkeeping of every instance after each turn of its loop (slow).
        jump: Pass stretches in which nothing changes at once; False steps through them, with equal results.
        watch: Called with the cluster before it starts, to attach observers.
        workload: Requests in place of those that the scenario's `workload` describes.
        host: What the CPU adds to a step, in place of the engines' host profiles.

    Raises:
        InputError: If the scenario names something that does not exist or cannot work.
        CapacityError: If a model does not fit on its hardware.
        IntegrityError: If a check does not hold.
        PolicyError: If a policy of the user's raised an error.
    """
    started_s = time.perf_counter()
    plans = [plan_engine(scenario, index, host) for index in range(len(scenario.pools))]
    if workload is None:
        workload = build_workload(scenario.workload, seed=scenario.seed, find_file=_finder(scenario))
    env = Environment(0)
    with naming_own_policies(scenario, env):
        cluster = _build_cluster(env, scenario, plans, workload, progress, check=check, jump=jump)
        if watch is not None:
            watch(cluster)
        cluster.start(workload.requests())
        partial = _run(env)
        cluster.stop()
    engines = [engine for state in cluster.pools for i in state.instances for engine in i.engines]
    peeks = [engine.scheduler.cached_prefix_tokens for engine in engines]
    logs = [[engine.log for i in state.instances for engine in i.engines] for state in cluster.pools]
    pools = [
        plan.pool_info(pool.name, [log.instance for log in of_pool])
        for plan, pool, of_pool in zip(plans, scenario.pools, logs, strict=True)
    ]
    split = [plan.split_time(of_pool) for plan, of_pool in zip(plans, logs, strict=True)]
    return Result(
        requests=cluster.log,
        steps=[log for of_pool in logs for log in of_pool],
        name=scenario.name,
        scenario=scenario,
        scenario_text=lambda: dump_scenario(scenario),
        seed=scenario.seed,
        pools=pools,
        slo=_targets(scenario.slo),
        window=Window(scenario.metrics.warmup_s, scenario.metrics.cooldown_s),
        time_split=split,
        calibration=plans[0].calibration,
        warnings=[*check_scenario(scenario), *(note for plan in plans for note in plan.notes)],
        info=measure_run(started_s),
        zero_lengths=workload.zero_lengths,
        partial=partial,
        prefixes=find_held(cluster.log.prefixes, peeks),
        prices=[plan.explain_step for plan in plans],
    )


def explain(scenario: Scenario, what: str) -> list[str]:
    """Return, line by line, what fills each pool's memory ("memory") or a step's time ("step").

    Raises:
        InputError: If `what` is neither, or the scenario cannot work.
    """
    lines: list[str] = []
    for index, pool in enumerate(scenario.pools):
        lines.append(f"pool {pool.name}: {scenario.model_of(pool)} on {pool.hardware}")
        lines += plan_engine(scenario, index).explain(what)
    return lines


def _run(env: Environment) -> bool:
    """Run until nothing is left to happen; returns whether it was interrupted."""
    stop = env.event()
    assert stop.callbacks is not None
    stop.callbacks.append(StopSimulation.callback)
    # Millions of small records live until the end; scanning them again and again for cycles, of which
    # there are none, would take a quarter of the time.
    enabled = gc.isenabled()
    gc.disable()
    try:
        with _stopping_on_interrupt(stop):
            env.run()
    except KeyboardInterrupt:
        return True
    finally:
        if enabled:
            gc.enable()
    return stop.triggered


@contextmanager
def _stopping_on_interrupt(stop: Event) -> Iterator[None]:
    """Let Ctrl-C end the run between two events: amid one, the record would not add up. A second ends it."""

    def ask(number: int, frame: object) -> None:
        if stop.triggered:
            raise KeyboardInterrupt
        stop.succeed()

    # Only the main thread can take signals, and a handler of the caller's own is left alone.
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _build_cluster(
    env: Environment,
    scenario: Scenario,
    plans: list[EnginePlan],
    workload: Workload,
    progress: Progress | None,
    *,
    check: bool,
    jump: bool,
) -> Cluster:
    states: list[PoolState] = []
    cluster = Cluster(env, states, workload.client, total=workload.count, progress=progress)
    number = 0
    for plan, pool in zip(plans, scenario.pools, strict=True):
        instances: list[AnyInstance] = []
        for _ in range(pool.replicas):
            instance = build_instance(plan, env, number, cluster.ended, jump=jump, check=check)
            instances.append(instance)
            number += len(instance.engines)
        states.append(
            PoolState(
                instances,
                plan.config.max_num_seqs * plan.engine.data_parallel_size,
                plan.config.max_model_len,
                pool.queue.limit,
                pool.queue.policy == "shed",
            )
        )
    cluster.connect(_build_router(scenario, [i for state in states for i in state.instances]))
    return cluster


def _build_router(scenario: Scenario, instances: list[AnyInstance]):  # type: ignore[no-untyped-def]
    from simserve.registry import lookup

    router = lookup("router", scenario.router.policy)
    arguments = scenario.router.arguments(getattr(router, "option_defaults", {}))
    return router(instances, scenario.seed, **arguments)


def _finder(scenario: Scenario) -> Callable[[str], Path]:
    from simserve.data_files import find_file

    return lambda path: find_file(path, scenario.folder)


def _targets(slo: Slo) -> SloTargets:
    return SloTargets(
        slo.ttft_s,
        slo.tpot_s,
        slo.e2el_s,
        {name: SloTargets(each.ttft_s, each.tpot_s, each.e2el_s) for name, each in slo.classes.items()},
    )
