"""The multi-level feedback queue: short requests first, without knowing which they are."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, ClassVar

from simserve.errors import InputError
from simserve.registry import register
from simserve.scheduler.orders.order import Order, OrderSettings
from simserve.scheduler.sequence import Sequence


@register("order", "mlfq")
class MultiLevelFeedback(Order):
    """The highest level; a request sinks a level whenever it has used up that level's quantum.

    Corbato et al., 1962; with levels in output tokens, as LLM servers have it (Wu et al., "Fast Distributed
    Inference Serving for Large Language Models", 2023, whose skip-join queue is the engine kind `fastserve`).
    Within a level by the time of joining the queue. One that waits too long is served as if new.

    Options:
        levels: How many.
        quantum_tokens: Output tokens on the highest level; each lower one has twice as many.
        promote_after_s: Seconds in the queue after which a request is back on the highest level; null: never.
    """

    dynamic = True
    preemptive = True
    option_defaults: ClassVar[Mapping[str, Any]] = {
        "levels": 6,
        "quantum_tokens": 16,
        "promote_after_s": None,
    }

    def __init__(self, settings: OrderSettings | None = None, **options: Any) -> None:
        super().__init__(settings, **options)
        self._lowest = self.positive_option("levels") - 1
        self._quantum = self.positive_option("quantum_tokens")
        if self.options["levels"] != int(self.options["levels"]):
            raise InputError(f"order option levels: expected a whole number, got {self.options['levels']!r}")
        self._promote_ns: float | None = None
        if self.options["promote_after_s"] is not None:
            self._promote_ns = self.positive_option("promote_after_s") * 1e9
        # By request: its outputs when it last began on the highest level, and since when it waits.
        self._begun: dict[int, int] = {}
        self._since: dict[int, int] = {}

    def key(self, sequence: Sequence) -> Any:
        """Return its level, 0 the highest."""
        return 0 if self._is_promoted(sequence) else self._level(sequence)

    def place(self, sequence: Sequence) -> tuple[Any, ...]:
        """Return since when it waits, and its id."""
        return (self._since.get(sequence.id, 0), sequence.arrival_order, sequence.id)

    def group(self, sequence: Sequence) -> Hashable:
        """Return its level without promotion; the first of a level to join is the first to be promoted."""
        return self._level(sequence)

    def arrived(self, sequence: Sequence) -> None:
        """Let it begin on the highest level."""
        self._begun[sequence.id] = sequence.outputs
        self._since[sequence.id] = sequence.arrived_ns

    def returned(self, sequence: Sequence) -> None:
        """Let it wait on the level that it has sunk to."""
        self._since[sequence.id] = self.now_ns

    def admitted(self, sequence: Sequence) -> None:
        """Let a promoted one begin on the highest level again."""
        if self._is_promoted(sequence):
            self._begun[sequence.id] = sequence.outputs
        del self._since[sequence.id]

    def withdrawn(self, sequence: Sequence) -> None:
        """Forget since when it waits."""
        del self._since[sequence.id]

    def ended(self, sequence: Sequence) -> None:
        """Forget it."""
        self._begun.pop(sequence.id, None)

    def _level(self, sequence: Sequence) -> int:
        """The level below those whose quanta add up to what it has got: q, 2 q, 4 q, ..."""
        got = sequence.outputs - self._begun[sequence.id]
        level = (int(got / self._quantum) + 1).bit_length() - 1
        return int(min(level, self._lowest))

    def _is_promoted(self, sequence: Sequence) -> bool:
        since = self._since.get(sequence.id)
        return self._promote_ns is not None and since is not None and self.now_ns - since >= self._promote_ns
