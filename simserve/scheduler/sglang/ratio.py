"""The new-token ratio: which share of the tokens that running requests may still generate admission reserves.

It falls with every decode step, and a retraction sets it to what the remaining requests have shown to need.
"""

from __future__ import annotations

from collections.abc import Sequence

# SGLang 0.5.23's environment defaults: SGLANG_INIT_NEW_TOKEN_RATIO, SGLANG_MIN_NEW_TOKEN_RATIO_FACTOR,
# SGLANG_NEW_TOKEN_RATIO_DECAY_STEPS and SGLANG_RETRACT_DECODE_STEPS.
_INIT_RATIO = 0.7
_MIN_FACTOR = 0.14
_DECAY_STEPS = 600
RETRACT_DECODE_STEPS = 20


class NewTokenRatio:
    """The ratio and how it moves.

    Args:
        schedule_conservativeness: Scales where it starts.

    Attributes:
        current, init, minimum: The ratio, where it starts, and how far it falls.
        step: How much it falls in a decode step.
    """

    __slots__ = ("current", "init", "minimum", "step")

    def __init__(self, schedule_conservativeness: float) -> None:
        self.init = min(_INIT_RATIO * schedule_conservativeness, 1.0)
        self.minimum = min(self.init * _MIN_FACTOR, 1.0)
        self.step = (self.init - self.minimum) / _DECAY_STEPS
        self.current = self.init

    def decay(self, steps: int = 1) -> None:
        """Let so many decode steps pass; one by one, as rounding makes it."""
        current, decay, minimum = self.current, self.step, self.minimum
        for _ in range(steps):
            if current == minimum:
                break
            current = max(current - decay, minimum)
        self.current = current

    def reset(self) -> None:
        """Start again: the engine has nothing to do."""
        self.current = self.init

    def settle(self, remaining: Sequence[tuple[int, int]]) -> None:
        """Set it after a retraction.

        Args:
            remaining: (generated tokens, max_new_tokens) of each request that still runs.
        """
        generated = sum(tokens for tokens, _ in remaining)
        most = sum(limit for _, limit in remaining)
        self.current = min(1.0, (generated + RETRACT_DECODE_STEPS * len(remaining)) / (most + 1))
