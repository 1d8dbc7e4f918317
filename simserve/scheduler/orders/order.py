"""The shape of every order: a key says who of the waiting is next; hooks tell it what has happened.

An order works with every engine kind that takes one. It never sees more of a request's length than its
predictor says (`predictors`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from simserve.errors import InputError, UnknownNameError
from simserve.registry import lookup
from simserve.scheduler.orders.predictors import OraclePredictor, Predictor
from simserve.scheduler.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Targets:
    """Upper limits of latencies in ns, from arrival; None: no limit."""

    ttft_ns: int | None = None
    tpot_ns: int | None = None
    e2el_ns: int | None = None


@dataclass(frozen=True, slots=True)
class OrderSettings:
    """What the scenario tells an order besides its own options.

    Attributes:
        seed: The scenario's seed, for draws keyed by (seed, request).
        predictor: Guesses output lengths.
        targets: Latency targets of requests without an SLO class of their own.
        class_targets: Those of each SLO class.
    """

    seed: int = 0
    predictor: Predictor = field(default_factory=OraclePredictor)
    targets: Targets = Targets()
    class_targets: Mapping[str, Targets] = field(default_factory=dict)

    def targets_of(self, sequence: Sequence) -> Targets:
        """Return the targets that a sequence is held to."""
        return self.class_targets.get(sequence.request.slo_class, self.targets)


@dataclass(frozen=True, slots=True)
class OrderPlan:
    """An order that each engine builds for itself.

    Attributes:
        policy: A registered order, or `package.module:Class`.
        settings: What the scenario says.
        options: The order's own options.
    """

    policy: str
    settings: OrderSettings = OrderSettings()
    options: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> Order:
        """Return a new order.

        Raises:
            InputError: If there is no such order, or it refuses its options.
        """
        order: Order = lookup("order", self.policy)(self.settings, **self.options)
        return order


class Order:
    """Base of all orders: subclass it and write `key`.

    Args:
        settings: What the scenario says.
        options: What `option_defaults` names; any other is an `UnknownNameError`.

    Attributes:
        now_ns: Time of the decision; the scheduler sets it.
        options: All options, defaults filled in.
    """

    # Whether a key may change while its sequence waits (else a queue asks for it once).
    dynamic: ClassVar[bool] = False
    # Whether a waiting sequence may take the seat of a running one with a larger key.
    preemptive: ClassVar[bool] = False
    option_defaults: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, settings: OrderSettings | None = None, **options: Any) -> None:
        for name in options:
            if name not in self.option_defaults:
                raise UnknownNameError(f"option of order {type(self).__name__}", name, self.option_defaults)
        self.settings = settings or OrderSettings()
        self.options = {**self.option_defaults, **options}
        self.now_ns = 0

    def key(self, sequence: Sequence) -> Any:
        """Return what sequences are sorted by, the smallest first; ties go by `place`."""
        raise NotImplementedError

    def place(self, sequence: Sequence) -> tuple[Any, ...]:
        """Return the order among equal keys, fixed while a sequence waits: by arrival, in the end by id."""
        return (sequence.arrival_order, sequence.id)

    def group(self, sequence: Sequence) -> Hashable:
        """Return which waiting sequences always have equal keys (of a dynamic order: a tenant's, say)."""
        return sequence.id

    # -- what happens ---------------------------------------------------------------------------------------

    def arrived(self, sequence: Sequence) -> None:
        """Note that a new sequence is about to enter the queue."""

    def returned(self, sequence: Sequence) -> None:
        """Note that a preempted sequence is about to enter the queue again."""

    def admitted(self, sequence: Sequence) -> None:
        """Note that a sequence has left the queue for a seat."""

    def withdrawn(self, sequence: Sequence) -> None:
        """Note that a sequence has left the queue because it was cancelled."""

    def served(self, sequence: Sequence, tokens: int) -> None:
        """Note that a running sequence has got output tokens."""

    def ended(self, sequence: Sequence) -> None:
        """Note that a sequence is gone for good: completed or cancelled, from a seat or from the queue."""

    # -- who gives way --------------------------------------------------------------------------------------

    def victim(self, running: Iterable[Sequence]) -> Sequence:
        """Return who of the running loses its memory when some must be freed: the last in this order."""
        return max(running, key=lambda each: (self.key(each), each.arrival_order, each.id))

    def displaced_by(self, head: Sequence, running: Iterable[Sequence]) -> Sequence | None:
        """Return the running sequence whose seat the head of the queue may take, None if nobody's."""
        if not self.preemptive:
            return None
        last = max(running, key=lambda each: (self.key(each), each.arrival_order, each.id), default=None)
        return last if last is not None and self.key(last) > self.key(head) else None

    def positive_option(self, name: str) -> float:
        """Return an option that must be a number above 0.

        Raises:
            InputError: If it is none.
        """
        value = self.options[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise InputError(f"order option {name}: expected a number above 0, got {value!r}")
        return value
