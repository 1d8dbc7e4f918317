"""Routers: which instance a request goes to.

A router keeps one number an instance, `loads`: requests that were sent there and have not ended. The
cluster tells it of both, `sent` and `ended`, so that a choice never asks every instance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from simserve import registry
from simserve.cluster.prefix_tree import PrefixTree
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


class _WithFallback(Router):
    """Base of routers that leave some requests to another policy, which shares their `loads`."""

    option_defaults: ClassVar[Mapping[str, Any]] = {"fallback": "least_outstanding"}

    def __init__(self, instances: Sequence[InstanceView], seed: int, **options: Any) -> None:
        super().__init__(instances, seed, **options)
        policy = registry.lookup("router", str(self.options["fallback"]))
        self._fallback: Router = policy(instances, seed)
        self._fallback.loads = self.loads

    def sent(self, request: Request, index: int) -> None:
        """Note that a request was sent to an instance: the fallback does, for both."""
        self._fallback.sent(request, index)

    def ended(self, index: int) -> None:
        """Note that a request of an instance has ended: the fallback does, for both."""
        self._fallback.ended(index)


@registry.register("router", "session_affinity")
class SessionAffinity(_WithFallback):
    """The instance that had the session's first request; `fallback` chooses for that one."""

    def __init__(self, instances: Sequence[InstanceView], seed: int, **options: Any) -> None:
        super().__init__(instances, seed, **options)
        self._home: dict[str, int] = {}

    def choose(self, request: Request, now_ns: int) -> int:
        """Return the session's instance, or the fallback's choice for a new or missing session."""
        index = self._home.get(request.session)
        return self._fallback.choose(request, now_ns) if index is None else index

    def sent(self, request: Request, index: int) -> None:
        """Note where a session lives from now on."""
        super().sent(request, index)
        if request.session:
            self._home[request.session] = index


@registry.register("router", "prefix_aware")
class PrefixAware(_WithFallback):
    """The instance with the longest cached prefix, while loads are balanced and the prefix is long enough.

    The rule and its defaults are SGLang's cache-aware router's (sgl-router, `CacheAwareConfig::default` in
    `src/policies/mod.rs`; the tree's bound from its `launch_router.py`: 2^24 characters, here taken as
    four characters a token): loads are out of balance if max - min > `balance_abs_threshold` and
    max > min * `balance_rel_threshold`, and the least loaded instance gets the request; else the best match
    gets it if it covers more than `threshold` of the prompt; else `fallback` chooses (SGLang: the instance
    with the smallest tree). Among equal matches the less loaded instance wins, then the lowest index.

    `view: cache` asks the instances' real caches; `view: tree` a tree of what this router sent where.
    """

    option_defaults: ClassVar[Mapping[str, Any]] = {
        "fallback": "least_outstanding",
        "view": "cache",
        "threshold": 0.5,
        "balance_abs_threshold": 32,
        "balance_rel_threshold": 1.1,
        "max_tree_tokens": 2**24 // 4,
    }

    def __init__(self, instances: Sequence[InstanceView], seed: int, **options: Any) -> None:
        super().__init__(instances, seed, **options)
        for name in ("threshold", "balance_abs_threshold", "balance_rel_threshold", "max_tree_tokens"):
            value = self.options[name]
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise InputError(f"router option {name}: expected a number of at least 0, got {value!r}")
        if self.options["view"] not in ("cache", "tree"):
            raise UnknownNameError(
                "view of router prefix_aware", str(self.options["view"]), ("cache", "tree")
            )
        self._threshold = float(self.options["threshold"])
        self._balance_abs = self.options["balance_abs_threshold"]
        self._balance_rel = self.options["balance_rel_threshold"]
        self.tree: PrefixTree | None = None
        if self.options["view"] == "tree":
            self.tree = PrefixTree(len(self.loads), int(self.options["max_tree_tokens"]))

    def choose(self, request: Request, now_ns: int) -> int:
        """Return the best match, the least loaded instance, or the fallback's choice."""
        loads = self.loads
        lowest, highest = min(loads), max(loads)
        if highest - lowest > self._balance_abs and highest > lowest * self._balance_rel:
            return loads.index(lowest)
        tokens, holders = self._match(request)
        if not holders or tokens <= self._threshold * request.prompt_tokens:
            return self._fallback.choose(request, now_ns)
        return min(holders, key=loads.__getitem__)

    def _match(self, request: Request) -> tuple[int, list[int]]:
        """The longest known prefix of the prompt in tokens, and who has it."""
        if not request.shared_tokens or not request.prompt:
            return 0, []
        if self.tree is not None:
            return self.tree.match(request.prompt)
        cached = [instance.cached_prefix_tokens(request) for instance in self.instances]
        longest = max(cached)
        return longest, [index for index, tokens in enumerate(cached) if tokens == longest]

    def sent(self, request: Request, index: int) -> None:
        """Note the request; the tree learns its prompt."""
        super().sent(request, index)
        if self.tree is not None:
            self.tree.insert(request.prompt, index)
