"""Orders by SLO deadlines: edf, slack. A request without a target comes after all that have one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from simserve.errors import InputError
from simserve.registry import register
from simserve.scheduler.orders.order import Order, OrderSettings, Targets
from simserve.scheduler.sequence import Sequence


def next_token_due_ns(sequence: Sequence, targets: Targets) -> float:
    """Return when a sequence's next token is due, in ns, infinite without a target.

    The first is due at the TTFT target after arrival, each further one a TPOT target after the one before,
    and all of them at the E2EL target.
    """
    due = math.inf if targets.e2el_ns is None else float(sequence.arrived_ns + targets.e2el_ns)
    paced = targets.tpot_ns is not None or not sequence.outputs
    if targets.ttft_ns is not None and paced:
        due = min(due, sequence.arrived_ns + targets.ttft_ns + sequence.outputs * (targets.tpot_ns or 0))
    return due


@register("order", "edf")
class EarliestDeadlineFirst(Order):
    """The one whose next token is due first (Liu and Layland, 1973)."""

    def __init__(self, settings: OrderSettings | None = None, **options: Any) -> None:
        super().__init__(settings, **options)
        _require_targets(self)

    def key(self, sequence: Sequence) -> Any:
        """Return when its next token is due."""
        return next_token_due_ns(sequence, self.settings.targets_of(sequence))


@register("order", "slack")
class LeastSlackFirst(Order):
    """The least time to spare: until the last token is due, less what the predicted tokens left will take.

    Least laxity first (Mok, 1983). The last token is due at the E2EL target, or else where the TTFT and TPOT
    targets put it. Time passes for all alike, so keys stay as they are while sequences wait.

    Options:
        token_s: Estimated time of an output token in seconds; must be given.
    """

    option_defaults: ClassVar[Mapping[str, Any]] = {"token_s": None}

    def __init__(self, settings: OrderSettings | None = None, **options: Any) -> None:
        super().__init__(settings, **options)
        _require_targets(self)
        if not self.settings.predictor.is_length:
            raise InputError("order slack needs a predictor of lengths; a ranking (ranked) gives none")
        if self.options["token_s"] is None:
            raise InputError("order slack needs options.token_s, the estimated seconds of an output token")
        self._token_ns = self.positive_option("token_s") * 1e9

    def key(self, sequence: Sequence) -> Any:
        """Return when it would have to run without a pause, from then on, to be in time."""
        outputs = self.settings.predictor.predict(sequence.request)
        targets = self.settings.targets_of(sequence)
        if targets.e2el_ns is not None:
            due = float(sequence.arrived_ns + targets.e2el_ns)
        elif targets.ttft_ns is not None:
            due = sequence.arrived_ns + targets.ttft_ns + (targets.tpot_ns or 0) * max(0.0, outputs - 1)
        else:
            return math.inf
        return due - max(0.0, outputs - sequence.outputs) * self._token_ns


def _require_targets(order: Order) -> None:
    """Refuse an order by deadlines where nobody has one. Raises InputError."""
    settings = order.settings
    if not any(t.ttft_ns or t.e2el_ns for t in (settings.targets, *settings.class_targets.values())):
        raise InputError(
            "an order by deadlines needs targets: give `slo: {ttft_s: ...}` or `slo: {e2el_s: ...}` "
            "(a TPOT alone sets no deadline)"
        )
