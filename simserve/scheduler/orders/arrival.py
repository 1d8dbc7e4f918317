"""Orders that look at nothing but who came when: fcfs, lifo, priority, random."""

from __future__ import annotations

from typing import Any

from simserve.registry import register
from simserve.rng import keyed_uniform
from simserve.scheduler.orders.order import Order
from simserve.scheduler.sequence import Sequence


@register("order", "fcfs")
class FirstComeFirstServed(Order):
    """The one that arrived first."""

    def key(self, sequence: Sequence) -> Any:
        """Return the order of arrival."""
        return sequence.arrival_order


@register("order", "lifo")
class LastComeFirstServed(Order):
    """The one that arrived last."""

    def key(self, sequence: Sequence) -> Any:
        """Return the order of arrival, reversed."""
        return -sequence.arrival_order


@register("order", "priority")
class ByPriority(Order):
    """The smallest `priority`, as in vLLM; then by arrival."""

    def key(self, sequence: Sequence) -> Any:
        """Return the request's priority."""
        return sequence.request.priority


@register("order", "random")
class RandomOrder(Order):
    """A draw for each request, keyed by seed and request."""

    def key(self, sequence: Sequence) -> Any:
        """Return the request's draw."""
        return keyed_uniform(self.settings.seed, sequence.id, "order")
