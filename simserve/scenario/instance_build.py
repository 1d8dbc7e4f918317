"""From what a pool's instances are made of to one of them on the clock."""

from __future__ import annotations

from simpy import Environment

from simserve.cluster.data_parallel import DataParallelInstance, Rank
from simserve.cluster.rank_choice import RankChoice
from simserve.cost.lockstep import lockstep_timer
from simserve.engine.instance import Instance
from simserve.engine.lockstep import LockstepGroup
from simserve.engine.lockstep_clock import LockstepClock
from simserve.engine.loop import Ended
from simserve.scenario.engine_plan import EnginePlan


def build_instance(
    plan: EnginePlan, env: Environment, number: int, ended: Ended, *, jump: bool, check: bool
) -> Instance | DataParallelInstance:
    """Build an instance: one engine, or a front end with an engine for each data-parallel rank.

    Args:
        plan: What it is made of.
        env: The clock.
        number: Of its first engine, which is its step log's; the other ranks' follow.
        ended: Called when a request has ended, see `EngineLoop`.
        jump: Pass stretches at once.
        check: Check the KV bookkeeping all the time.
    """

    def build_engine(index: int) -> Instance:
        return Instance(
            env, index, plan.build_scheduler(jump=jump), plan.build_clock(), ended, jump=jump, check=check
        )

    size = plan.engine.data_parallel_size
    if size == 1:
        return build_engine(number)
    choice = RankChoice(size)
    ranks: list[Rank]
    if plan.shape.is_moe:
        group = LockstepGroup(
            env,
            number,
            [plan.build_scheduler(jump=jump) for _ in range(size)],
            LockstepClock(
                [lockstep_timer(timer) for timer in plan.timers],
                serial=plan.config.async_scheduling,
                draft=plan.draft,
                transfers=[plan.build_transfers() for _ in range(size)],
                weight_reads=plan.weight_reads,
            ),
            ended,
            choice.report,
            reports_early=plan.profile.reports_load_early,
            jump=jump,
            check=check,
        )
        ranks = list(group.ranks)
    else:
        ranks = [build_engine(number + rank) for rank in range(size)]
    for rank, engine in enumerate(ranks):
        engine.log.rank = rank
    return DataParallelInstance(ranks, choice, env)
