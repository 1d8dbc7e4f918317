"""Routers that send a request where its session or its prefix is; the others go by another policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from simserve import registry
from simserve.cluster.prefix_tree import PrefixTree
from simserve.cluster.routers import InstanceView, Router
from simserve.errors import InputError, UnknownNameError
from simserve.workload.request import Request


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
