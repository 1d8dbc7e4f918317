"""One instance of several data-parallel ranks: a front end that chooses a rank for each request.

To clients and routers it is one instance; each rank has a scheduler, a KV pool and a step log of its own.
Ranks of a dense model run by themselves, those of a mixture of experts in lock-step (`engine.lockstep`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from simpy import Environment

from simserve.cluster.rank_choice import RankChoice
from simserve.engine.instance import Instance
from simserve.engine.lockstep_rank import LockstepRank
from simserve.engine.loop import EngineLoop, Waiting
from simserve.scheduler.sequence import Sequence as Running
from simserve.workload.request import Request

Rank = Instance | LockstepRank


class DataParallelInstance:
    """What a cluster asks of an instance, over its ranks.

    Args:
        ranks: Its engines.
        choice: Chooses one of them for each request.
        env: The clock.

    Attributes:
        ranks: Its engines.
    """

    def __init__(self, ranks: Sequence[Rank], choice: RankChoice, env: Environment) -> None:
        self.ranks = ranks
        self._choice = choice
        self._env = env

    def submit(self, request: Request, owner: Any) -> int:
        """Hand over a request now; returns the number of the step log that will tell of it."""
        now: int = self._env.now  # type: ignore[assignment]
        return self.ranks[self._choice.choose(now)].submit(request, owner)

    def cancel(self, request_id: int, reason: str) -> None:
        """Ask the rank that has a request to drop it."""
        for rank in self.ranks:
            if rank.has_request(request_id):
                rank.cancel(request_id, reason)

    @property
    def engines(self) -> list[EngineLoop]:
        """Its ranks' engines."""
        return list(self.ranks)

    @property
    def outstanding(self) -> int:
        """Requests running and waiting."""
        return sum(rank.outstanding for rank in self.ranks)

    @property
    def waiting(self) -> int:
        """Requests that have no seat."""
        return sum(rank.waiting for rank in self.ranks)

    @property
    def free_blocks(self) -> int:
        """KV blocks that nobody owns, as of now, of all ranks."""
        return sum(rank.free_blocks for rank in self.ranks)

    def cached_prefix_tokens(self, request: Request) -> int:
        """Leading tokens of a prompt that some rank's prefix cache holds, as of now."""
        return max(rank.cached_prefix_tokens(request) for rank in self.ranks)

    def oldest_waiting(self) -> Waiting | None:
        """Return the waiting request of lowest priority, the oldest of those; None if none waits."""
        waiting = [found for rank in self.ranks if (found := rank.oldest_waiting()) is not None]
        return max(waiting, key=Waiting.rank, default=None)

    def find_sequence(self, request_id: int) -> Running | None:
        """Return the state of a request that a rank's scheduler knows; None for any other."""
        found = (rank.find_sequence(request_id) for rank in self.ranks)
        return next((sequence for sequence in found if sequence is not None), None)

    def close(self) -> None:
        """Bring logs and schedulers of all ranks up to now; nothing may happen afterwards."""
        for rank in self.ranks:
            rank.close()
