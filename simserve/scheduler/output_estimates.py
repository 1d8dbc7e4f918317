"""Estimates of how long outputs will be and what memory that takes at the worst moment, from the past.

Of LightLLM (Gong et al., "Past-Future Scheduler for LLM Serving under SLA Guarantees", ASPLOS 2025). Every
draw is keyed by (request, step).
"""

from __future__ import annotations

from bisect import bisect, insort
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from simserve.registry import register
from simserve.rng import keyed_uniform
from simserve.scheduler.sequence import Sequence

# Of a request: tokens that it will yet generate (negated, so that the longest sorts first), tokens it holds.
Need = tuple[int, int]


class OutputEstimate:
    """Base of all estimates: subclass it and write `total_outputs`.

    Args:
        options: Those of the engine.

    Attributes:
        reserved_share: Share of the KV memory that is left out of account.
    """

    reserved_share = 0.0

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options
        self.is_busy = False
        self._step = 0
        # Those that run or are admitted now, and for how many of them lengths are drawn.
        self._counted: list[Sequence] = []
        self._running = 0
        # What each of them needs, as drawn once, or several times; sorted; None before it is drawn.
        self._drawn: list[list[Need]] | None = None

    def total_outputs(self, sequence: Sequence, draw: int) -> int:
        """Return how many tokens a request will have generated in the end. To be overridden.

        Args:
            sequence: The request.
            draw: Which of the draws this is.
        """
        raise NotImplementedError

    def count_draws(self, running: int) -> int:
        """Return how many times the lengths of `running` requests are drawn."""
        return 1

    def record(self, outputs: int) -> None:
        """Note the length of a finished output."""

    def begin(self, step: int, running: Iterable[Sequence], *, is_busy: bool) -> None:
        """Estimate the needs of those that run, before some are admitted in step number `step`."""
        self._step = step
        self.is_busy = is_busy
        self._counted = list(running)
        self._running = len(self._counted)
        self._drawn = None

    def fits(self, sequence: Sequence, block_size: int, limit: float) -> bool:
        """Count a waiting request in; returns whether the peak is below a limit.

        No length is drawn where the longest outputs fit: no draw is above them.
        """
        if self._drawn is None:
            longest = sum([_longest(each) for each in self._counted]) + _longest(sequence)
            if longest + (len(self._counted) + 1) * block_size < limit:
                self._counted.append(sequence)
                return True
        return self.peak_with(sequence, block_size) < limit

    def peak_with(self, sequence: Sequence, block_size: int) -> int:
        """Count a waiting request in; returns the tokens of all at the worst moment, of all draws.

        When one of them ends, those with more to come hold what they hold now, and as many tokens more as it
        had to come, and as much as the last block of each is empty.
        """
        if self._drawn is None:
            self._drawn = [
                sorted([self._need(each, draw) for each in self._counted])
                for draw in range(self.count_draws(self._running))
            ]
        worst = 0
        for draw, needs in enumerate(self._drawn):
            insort(needs, self._need(sequence, draw))
            held = 0
            for count, (left, holds) in enumerate(needs, 1):
                held += holds
                worst = max(worst, held + count * (block_size - 1 - left))
        return worst

    def _need(self, sequence: Sequence, draw: int) -> Need:
        total = min(self.total_outputs(sequence, draw), sequence.request.max_tokens)
        if sequence.decoding:
            return -max(0, total - sequence.outputs - 1), sequence.known
        # The step that computes the prompt yields the first token.
        return -max(0, total - sequence.outputs - 2), sequence.known + 1


def _longest(sequence: Sequence) -> int:
    return sequence.request.prompt_tokens + sequence.request.max_tokens


@register("length_estimate", "max_tokens")
class MaxTokens(OutputEstimate):
    """Every output is as long as its max_tokens lets it be: nobody is ever paused."""

    def total_outputs(self, sequence: Sequence, draw: int) -> int:
        """Return its max_tokens."""
        return sequence.request.max_tokens


@register("length_estimate", "ema")
class MovingAverage(OutputEstimate):
    """The moving average of finished outputs, or 1.1 times what a request has got; max_tokens if busy.

    `RouterStatics` of LightLLM's `router/stats.py`: outputs count as at least 64 tokens, and the weight of a
    new one sinks from 0.5 by a fifth each time, down to 0.04.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        self._average: int = options["router_max_new_token_len"]
        self._weight = 0.5

    def total_outputs(self, sequence: Sequence, draw: int) -> int:
        """Return the average, if that is more than it has."""
        if self.is_busy:
            return sequence.request.max_tokens
        return max(int(1.1 * sequence.outputs), self._average)

    def record(self, outputs: int) -> None:
        """Let the average follow."""
        weight = self._weight
        self._average = max(64, int(self._average * (1 - weight) + max(outputs, 64) * weight))
        self._weight = max(0.04, weight * 0.8)


@register("length_estimate", "history")
class PastLengths(OutputEstimate):
    """Drawn from the lengths of the last finished outputs that are longer than what a request has got.

    `PastFutureQueue` of LightLLM: window, number of draws, reserved share and interpolation are its own.
    """

    reserved_share = 0.05
    _WINDOW = 200
    _SAMPLES = 200
    _MOST_DRAWS = 5

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        first: int = options["router_max_new_token_len"]
        self._past = deque([first] * (self._WINDOW // 2), self._WINDOW)
        self._sorted = [first] * (self._WINDOW // 2)

    def count_draws(self, running: int) -> int:
        """Return enough draws for about 200 lengths, at most 5."""
        return min(self._MOST_DRAWS, self._SAMPLES // running + 1) if running else 1

    def total_outputs(self, sequence: Sequence, draw: int) -> int:
        """Return a past length; of a running request an interpolated one beyond what it has got."""
        number = self._step * self._MOST_DRAWS + draw
        uniform = keyed_uniform(0, sequence.request.id, "estimated output", number)
        if not sequence.decoding:
            return self._past[int(uniform * len(self._past))]
        past, begin = self._sorted, bisect(self._sorted, sequence.outputs)
        # Between what it has got, the longer ones of the past and its max_tokens, all equally likely.
        place, share = divmod(uniform * (len(past) - begin + 1), 1.0)
        left = begin + int(place) - 1
        low = past[left] if place else sequence.outputs
        high = past[left + 1] if left + 1 < len(past) else sequence.request.max_tokens
        return round(low + (high - low) * share)

    def record(self, outputs: int) -> None:
        """Let the oldest length go."""
        if len(self._past) == self._WINDOW:
            del self._sorted[bisect(self._sorted, self._past[0]) - 1]
        self._past.append(outputs)
        insort(self._sorted, outputs)
