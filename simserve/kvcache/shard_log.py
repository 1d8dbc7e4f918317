"""How evenly the blocks of sharded sequences lay on their ranks, over the steps of an engine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class ShardLog:
    """Sums over all steps.

    Attributes:
        ranks, blocks_per_rank: Of the memory.
        steps: Steps summed up.
        used_sum: Blocks in use on all ranks.
        fullest_sum: Blocks in use on the fullest rank.
        worst: The most blocks by which the fullest rank was ahead of the mean, times the ranks.
        refused: Requests that found no room, once for each state of the memory.
        refused_by_imbalance: Those of them for which all ranks together had blocks enough.
    """

    ranks: int
    blocks_per_rank: int
    steps: int = 0
    used_sum: int = 0
    fullest_sum: int = 0
    worst: int = 0
    refused: int = 0
    refused_by_imbalance: int = 0

    def add(self, steps: int, used: int, fullest: int) -> None:
        """Sum up `steps` steps with so many blocks in use on all ranks, and on the fullest."""
        self.steps += steps
        self.used_sum += steps * used
        self.fullest_sum += steps * fullest
        self.worst = max(self.worst, fullest * self.ranks - used)
