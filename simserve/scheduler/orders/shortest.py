"""Orders by predicted length: sjf, srpt."""

from __future__ import annotations

from typing import Any

from simserve.registry import register
from simserve.scheduler.orders.order import Order, OrderSettings
from simserve.scheduler.sequence import Sequence


@register("order", "sjf")
class ShortestJobFirst(Order):
    """The shortest predicted output (Fu et al., "Efficient LLM Scheduling by Learning to Rank", 2024)."""

    def key(self, sequence: Sequence) -> Any:
        """Return the predicted output tokens."""
        return self.settings.predictor.predict(sequence.request)


@register("order", "srpt")
class ShortestRemainingFirst(Order):
    """The fewest predicted tokens left (Schrage, 1968); takes the seat of one with more.

    One that has outlived its prediction counts as about to end. A ranking has no lengths to subtract from: it
    orders by rank, with preemption.
    """

    preemptive = True

    def __init__(self, settings: OrderSettings | None = None, **options: Any) -> None:
        super().__init__(settings, **options)
        # By request; asked for in every step of those that run.
        self._guesses: dict[int, float] = {}

    def arrived(self, sequence: Sequence) -> None:
        """Guess its length."""
        self._guesses[sequence.id] = self.settings.predictor.predict(sequence.request)

    def ended(self, sequence: Sequence) -> None:
        """Forget its length."""
        self._guesses.pop(sequence.id, None)

    def key(self, sequence: Sequence) -> Any:
        """Return the predicted output tokens that are left."""
        guess = self._guesses[sequence.id]
        return max(0.0, guess - sequence.outputs) if self.settings.predictor.is_length else guess
