"""What an eviction policy is told of the model and the hardware that it evicts for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from simserve.cost.timer import Chunk, StepTimer
from simserve.registry import lookup

_LINEAR_CONTEXT = "linear_context_tokens"


def complete_eviction_options(
    eviction: str, options: Mapping[str, Any], timers: Sequence[StepTimer], chunk_tokens: int, longest: int
) -> dict[str, Any]:
    """Return a policy's options, `linear_context_tokens` among them if the policy takes it.

    What the scenario says goes before what is derived.

    Args:
        eviction: The policy's registered name, or `package.module:Class`.
        options: Those that the scenario gives.
        timers: Step timers of the pipeline's stages.
        chunk_tokens: Prompt tokens of a step at most.
        longest: Longest sequence, in tokens.

    Raises:
        UnknownNameError: If there is no such policy.
    """
    completed = dict(options)
    if _LINEAR_CONTEXT in getattr(lookup("eviction", eviction), "option_defaults", {}):
        chunk_tokens = max(1, min(chunk_tokens, longest // 2))
        completed.setdefault(_LINEAR_CONTEXT, find_linear_context(timers, chunk_tokens, longest))
    return completed


def find_linear_context(timers: Sequence[StepTimer], chunk_tokens: int, longest: int) -> float:
    """Return the position at which attention costs a prefilled token as much as all the rest does.

    A chunk of c tokens behind p others takes B + A c (p + c / 2): each token reads those before it. Two
    prices, behind nothing and behind as many as there can be, give A and B; the position is B / (A c).
    Layers with a window count as they do on average over the longest sequence.

    Args:
        timers: Step timers of the pipeline's stages.
        chunk_tokens: c.
        longest: Longest sequence, in tokens.

    Returns:
        Tokens, at least 1; infinity where a context costs nothing.
    """
    history = max(1, longest - chunk_tokens)

    def price(behind: int) -> int:
        return sum(timer.batch_ns(0, 0, 0, [Chunk(chunk_tokens, behind)], 1) for timer in timers)

    alone = price(0)
    per_history_token = (price(history) - alone) / history
    if per_history_token <= 0:
        return math.inf
    return max(1.0, alone / per_history_token - chunk_tokens / 2)
