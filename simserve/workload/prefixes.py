"""Groups of requests that start with the same tokens: system prompts, shared documents, few-shot examples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simserve import rng
from simserve.workload.lengths import Lengths
from simserve.workload.workload import IntColumn


@dataclass(frozen=True)
class PrefixGroups:
    """Prefixes and how popular they are.

    Attributes:
        tokens: Lengths of the prefixes, drawn once a group.
        weights: Popularity of each group, shape (groups,).
    """

    tokens: Lengths
    weights: tuple[float, ...]

    def draw(self, seed: int, count: int) -> tuple[IntColumn, IntColumn]:
        """Return the group of each of `count` sessions, and the prefix length of each group.

        Args:
            seed: The workload's seed.
            count: How many sessions (or single requests).
        """
        lengths = self.tokens.draw(rng.stream(seed, "prefix lengths"), len(self.weights))
        bounds = np.cumsum(self.weights) / sum(self.weights)
        draws = rng.stream(seed, "prefix groups").random(count)
        groups = np.minimum(np.searchsorted(bounds, draws, side="right"), len(self.weights) - 1)
        return groups.astype(np.int64), lengths


def zipf_weights(groups: int, exponent: float) -> tuple[float, ...]:
    """Return popularities rank^-exponent of `groups` groups; exponent 0: all alike."""
    return tuple(rank**-exponent for rank in range(1, groups + 1))
