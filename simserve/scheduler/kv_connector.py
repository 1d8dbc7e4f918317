"""A scheduler's side of the tiers behind its KV cache: what begins to move, and who waits for it.

Called a KV connector as in vLLM (`vllm/distributed/kv_transfer/kv_connector`). Times are those of the engine,
which owns the paths (`Links`); a scheduler names only the time of its decision.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from simserve.kvcache.cache_plan import TierPlan
from simserve.kvcache.tier_moves import GPU, Move
from simserve.scheduler.batch import FROM_HOST, TO_HOST, Landing, Transfer, read_path, write_path


class Links(Protocol):
    """The paths of KV entries, as the engine times them."""

    def start(self, transfer: Transfer, now_ns: int) -> Landing:
        """Begin a transfer as soon as its paths are free and what it reads has landed."""

    def free_at(self, path: int) -> int:
        """Return when what is under way on a path will have landed."""

    def landed_at(self, ticket: int) -> int:
        """Return when what has a ticket lands, 0 if that is past."""

    def forget_landed(self, now_ns: int) -> None:
        """Forget what has landed by the time of a decision."""


class InstantLinks:
    """Paths of a scheduler without an engine: all lands at once."""

    def start(self, transfer: Transfer, now_ns: int) -> Landing:
        """Land at once."""
        return Landing(now_ns, now_ns)

    def free_at(self, path: int) -> int:
        """Never busy."""
        return 0

    def landed_at(self, ticket: int) -> int:
        """Landed long ago."""
        return 0

    def forget_landed(self, now_ns: int) -> None:
        """Nothing is kept."""


class KVConnector:
    """Turns what a cache has begun to move into transfers, and knows which requests wait for theirs.

    Args:
        plan: The tiers.

    Attributes:
        links: The engine's paths; it sets them.
        now_ns: Time of the decision under way; -1 between decisions, when paths count as idle.
    """

    def __init__(self, plan: TierPlan) -> None:
        self.plan = plan
        self.links: Links = InstantLinks()
        self.now_ns = -1
        self._levels = {spec.name: level for level, spec in enumerate(plan.specs)}
        self._landings: dict[int, Landing] = {}
        self._deferred: list[tuple[list[Move], int]] = []
        # Seconds of what the step that is being decided waits for, by path.
        self._awaited_s: dict[int, float] = {}

    # -- decisions ----------------------------------------------------------------------------------------

    def begin_decision(self, now_ns: int) -> None:
        """Note the time of a decision; start what was deferred to it."""
        self.now_ns = now_ns
        self._awaited_s.clear()
        self.links.forget_landed(now_ns)
        deferred, self._deferred = self._deferred, []
        for moves, request_id in deferred:
            self._landings[request_id] = self.start(moves)

    def end_decision(self) -> None:
        """Forget the time: who looks at the cache between decisions reckons with idle paths."""
        self.now_ns = -1

    # -- what moves ---------------------------------------------------------------------------------------

    def start(self, moves: Iterable[Move]) -> Landing:
        """Begin moves beside the steps, now.

        Returns:
            When the first of them begins, and when all that go to the GPU (of none: all) have landed.
        """
        loads: list[Landing] = []
        others: list[Landing] = []
        for move in moves:
            transfer = self._transfer(move)
            if transfer is not None:
                landing = self.links.start(transfer, self.now_ns)
                (loads if move.target == GPU else others).append(landing)
        awaited = loads or others or [Landing(self.now_ns, self.now_ns)]
        return Landing(min(each.begin_ns for each in awaited), max(each.end_ns for each in awaited))

    def defer(self, moves: Iterable[Move], request_id: int) -> None:
        """Begin moves for a request that has just come, with the next decision."""
        self._deferred.append((list(moves), request_id))

    def awaited(self, moves: Iterable[Move], layers: int = 0) -> list[Transfer]:
        """Return moves as transfers of a step, which waits for those to the GPU; see `Transfer.layers`."""
        transfers = []
        for move in moves:
            transfer = self._transfer(move)
            if transfer is not None:
                is_load = move.target == GPU
                transfers.append(transfer._replace(awaited=is_load, layers=layers if is_load else 0))
                if is_load:
                    rate = self.plan.specs[self._levels[move.source]].read_bytes_per_s
                    awaited_s = self._awaited_s.get(transfer.path, 0.0)
                    self._awaited_s[transfer.path] = awaited_s + transfer.size_bytes / rate
        return transfers

    def _transfer(self, move: Move) -> Transfer | None:
        """Return a move as one rank sees it; None where it uses no path (within host memory)."""
        source, target, size_bytes, ticket, after = move
        size_bytes = -(-size_bytes // self.plan.gpus)
        own_paths, levels = self.plan.own_paths, self._levels
        paths = []
        if source != GPU and own_paths[levels[source]]:
            paths.append(read_path(levels[source]))
        if target != GPU and own_paths[levels[target]]:
            paths.append(write_path(levels[target]))
        if not paths and source == GPU:
            paths.append(TO_HOST)
        elif not paths and target == GPU:
            paths.append(FROM_HOST)
        if not paths:
            return None
        via = paths[1] if len(paths) > 1 else -1
        return Transfer(paths[0], size_bytes, 1, awaited=False, ticket=ticket, after=after, via=via)

    # -- who waits ----------------------------------------------------------------------------------------

    def hold(self, request_id: int, landing: Landing) -> None:
        """Let a request wait for bytes under way."""
        self._landings[request_id] = landing

    def is_loading(self, request_id: int) -> bool:
        """Whether bytes of a request are still under way at the time of this decision."""
        landing = self._landings.get(request_id)
        return landing is not None and landing.end_ns > self.now_ns

    def forget(self, request_id: int) -> None:
        """Note that a request waits for nothing any more."""
        self._landings.pop(request_id, None)

    def next_landing(self, now_ns: int) -> int | None:
        """Return when the next request's bytes will have landed; None if none is under way."""
        ends = [landing.end_ns for landing in self._landings.values() if landing.end_ns > now_ns]
        return min(ends, default=None)

    # -- how busy paths are: `tiers.Traffic` -----------------------------------------------------------------

    def path_wait_s(self, tier: int) -> float:
        """Return how long what is under way still holds the path on which a tier is read."""
        if self.now_ns < 0:
            return 0.0
        path = read_path(tier) if self.plan.own_paths[tier] else FROM_HOST
        return max(0, self.links.free_at(path) - self.now_ns) / 1e9 + self._awaited_s.get(path, 0.0)

    def landing_wait_s(self, ticket: int) -> float:
        """Return how long it takes until a write has landed."""
        return max(0, self.links.landed_at(ticket) - self.now_ns) / 1e9 if self.now_ns >= 0 else 0.0
