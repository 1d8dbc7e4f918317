"""Routers: which instance a request goes to, by turns, by chance or by load.

A router keeps one number an instance, `loads`: requests that were sent there and have not ended. The
cluster tells it of both, `sent` and `ended`, so that a choice never asks every instance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from simserve import registry
from simserve.errors import InputError, UnknownNameError
from simserve.rng import keyed_uniform
from simserve.workload.request import Request


class InstanceView(Protocol):
    """What a router may ask of an instance; every answer is as of now."""

    @property
    def outstanding(self) -> int:
        """Requests running and waiting."""

    @property
    def free_blocks(self) -> int:
        """KV blocks that no running request owns."""

    def cached_prefix_tokens(self, request: Request) -> int:
        """Leading prompt tokens that its prefix cache holds."""


class Router:
    """Base of all routers: subclass it and write `choose`.

    Args:
        instances: The instances, numbered from 0 in this order.
        seed: The scenario's seed, for draws keyed by (seed, request).
        options: What `option_defaults` names; any other is an `UnknownNameError`.

    Attributes:
        loads: Requests sent to each instance that have not ended (running and waiting).
        options: All options, defaults filled in.
    """

    option_defaults: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, instances: Sequence[InstanceView], seed: int, **options: Any) -> None:
        if not instances:
            raise InputError("a router needs at least one instance")
        for name in options:
            if name not in self.option_defaults:
                raise UnknownNameError(
                    f"option of {type(self).__name__}",
                    name,
                    self.option_defaults,
                )
        self.instances = instances
        self.seed = seed
        self.options = {**self.option_defaults, **options}
        self.loads = [instance.outstanding for instance in instances]

    def choose(self, request: Request, now_ns: int) -> int:
        """Return the index of the instance that gets the request. May advance the router's own state."""
        raise NotImplementedError

    def sent(self, request: Request, index: int) -> None:
        """Note that a request was sent to an instance (after `choose`, if it was not rejected there)."""
        self.loads[index] += 1

    def ended(self, index: int) -> None:
        """Note that a request of an instance has completed or failed."""
        self.loads[index] -= 1


@registry.register("router", "round_robin")
class RoundRobin(Router):
    """One instance after the other."""

    def __init__(self, instances: Sequence[InstanceView], seed: int, **options: Any) -> None:
        super().__init__(instances, seed, **options)
        self._next = 0

    def choose(self, request: Request, now_ns: int) -> int:
        """Return the next instance in turn."""
        index = self._next
        self._next = (index + 1) % len(self.loads)
        return index


@registry.register("router", "random")
class Random(Router):
    """A random instance, drawn by (seed, request id)."""

    def choose(self, request: Request, now_ns: int) -> int:
        """Return a uniformly drawn instance."""
        return int(keyed_uniform(self.seed, request.id, "router") * len(self.loads))


@registry.register("router", "least_outstanding")
class LeastOutstanding(Router):
    """The instance with the fewest running and waiting requests, the lowest index among equals.

    For each load it keeps the set of instances that have it, as bits of an integer: a choice does not look
    at all of them.
    """

    def __init__(self, instances: Sequence[InstanceView], seed: int, **options: Any) -> None:
        super().__init__(instances, seed, **options)
        self._with_load = [0] * (max(self.loads) + 2)
        for index, load in enumerate(self.loads):
            self._with_load[load] |= 1 << index
        self._least = min(self.loads)

    def sent(self, request: Request, index: int) -> None:
        """Note that a request was sent to an instance."""
        load = self.loads[index]
        self.loads[index] = load + 1
        with_load = self._with_load
        if load + 1 == len(with_load):
            with_load.append(0)
        with_load[load] ^= 1 << index
        with_load[load + 1] |= 1 << index
        while not with_load[self._least]:
            self._least += 1

    def ended(self, index: int) -> None:
        """Note that a request of an instance has completed or failed."""
        load = self.loads[index]
        self.loads[index] = load - 1
        self._with_load[load] ^= 1 << index
        self._with_load[load - 1] |= 1 << index
        if load - 1 < self._least:
            self._least = load - 1

    def choose(self, request: Request, now_ns: int) -> int:
        """Return the least loaded instance."""
        least = self._with_load[self._least]
        return (least & -least).bit_length() - 1


@registry.register("router", "power_of_two")
class PowerOfTwo(Router):
    """The less loaded of two random instances (Mitzenmacher, "The power of two choices", 2001)."""

    def choose(self, request: Request, now_ns: int) -> int:
        """Return the less loaded of two distinct instances, the first drawn among equals."""
        count = len(self.loads)
        first = int(keyed_uniform(self.seed, request.id, "router") * count)
        if count == 1:
            return first
        second = int(keyed_uniform(self.seed, request.id, "router", 1) * (count - 1))
        second += second >= first
        return second if self.loads[second] < self.loads[first] else first
