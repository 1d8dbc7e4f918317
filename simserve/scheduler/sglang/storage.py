"""What lies behind the host's memory (HiCache's L3): written when the host has a copy, read for who waits.

A request that waits has what the tree misses read into the host's memory. Whether it may be tried before that
has landed is SGLang's `hicache_storage_prefetch_policy`; what has landed by then is entered into the tree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from simserve.errors import IntegrityError
from simserve.kvcache.cache_plan import TierPlan
from simserve.kvcache.prefix_keys import block_keys
from simserve.kvcache.radix_host import HostedRadixCache
from simserve.kvcache.radix_host_node import HostedNode
from simserve.kvcache.radix_node import path_segments
from simserve.kvcache.tier import TierCounts
from simserve.kvcache.tier_moves import GPU, Move
from simserve.kvcache.tiers import TierStack
from simserve.scheduler.batch import Landing
from simserve.scheduler.kv_connector import KVConnector
from simserve.scheduler.sglang.row import Row

# SGLang 0.5.23's defaults: prefetch_threshold (tokens), prefetch_timeout_base (s) and
# prefetch_timeout_per_ki_token (s per 1,024 tokens), and the share of the host's memory above whose use no
# more is read (`HiCacheController.prefetch_capacity_limit`).
_LEAST_TOKENS = 256
_TIMEOUT_S = 1.0
_TIMEOUT_S_PER_KI_TOKEN = 0.25
_MOST_SHARE = 0.5
# hicache_storage_prefetch_retry_max_attempts.
_MOST_LOOKUPS = 8


@dataclass(slots=True)
class Reading:
    """Tokens on their way to the host for a request that waits.

    Attributes:
        anchor: Node at which they are to be entered; its copies are kept.
        begin, end: Tokens of the prefix.
        asked: Tokens that the request missed.
        landing: When they move.
        deadline_ns: Until when the request waits for them at most, -1 while nobody has asked.
    """

    anchor: HostedNode
    begin: int
    end: int
    asked: int
    landing: Landing
    deadline_ns: int = -1


class Storage:
    """The tiers behind the host's memory.

    Args:
        plan: All tiers, the first of which is the host's memory.
        tree: What device and host hold.
        connector: Times what moves.
        policy: "best_effort": nobody waits; "wait_complete": until all has landed; "timeout": at most as long
            as SGLang's formula says.
    """

    def __init__(self, plan: TierPlan, tree: HostedRadixCache, connector: KVConnector, policy: str) -> None:
        self.stack = TierStack(plan.specs[1:], plan.bytes_per_token, plan.chunk_tokens)
        self._tree = tree
        self._connector = connector
        self._policy = policy
        self._host = plan.specs[0].name
        self._readings: dict[int, Reading] = {}
        self._asked = 0

    @property
    def tier_counts(self) -> dict[str, TierCounts]:
        """What each tier was asked and has moved, by its name."""
        return {tier.spec.name: tier.counts for tier in self.stack.tiers}

    @property
    def is_reading(self) -> bool:
        """Whether anything is being read."""
        return bool(self._readings)

    # -- writing ------------------------------------------------------------------------------------------

    def store(self, node: HostedNode, begin: int) -> list[Move]:
        """Note that the host has the tokens from `begin` on to the end of a node; return what moves."""
        return self._renamed(self.stack.publish(self._chunks(node, begin)))

    def drop(self, node: HostedNode) -> list[Move]:
        """Note that the host drops a node; return what moves."""
        return self._renamed(self.stack.drop(self._chunks(node, node.depth - node.length)))

    def _chunks(self, node: HostedNode, begin: int) -> list[int]:
        chunk = self.stack.chunk_tokens
        return block_keys(path_segments(node), chunk, node.depth // chunk)[begin // chunk :]

    def _renamed(self, moves: Iterable[Move]) -> list[Move]:
        """Say "host" where the stack, which does not know it, says "GPU"."""
        host = self._host
        return [
            move._replace(
                source=host if move.source == GPU else move.source,
                target=host if move.target == GPU else move.target,
            )
            for move in moves
        ]

    # -- reading ahead ------------------------------------------------------------------------------------

    def begin(self, row: Row) -> None:
        """Look for what the tree misses of a request that has entered the queue, and begin to read it."""
        tree, chunk = self._tree, self.stack.chunk_tokens
        match = tree.find(row.key, row.known - 1)
        begin = row.looked_up = match.tokens + match.host_tokens
        asked = row.known - 1 - begin
        asked -= asked % tree.page_size
        if asked < _LEAST_TOKENS or self._asked >= _MOST_SHARE * tree.host_capacity:
            return
        anchor = match.host_node
        if anchor.parent is not None and not anchor.on_host:
            return  # what follows a node without a copy is not stored either
        skip = begin // chunk
        keys = block_keys(row.key, chunk, min(row.known - 1, row.request.shared_tokens) // chunk)
        found = self.stack.find(keys, skip)
        end = found[-1].end * chunk if found else begin
        chosen = []
        if end - begin >= _LEAST_TOKENS:
            tree.lock_host(anchor)
            missing = end - begin - tree.host_free
            if missing > 0:
                tree.evict_host(missing)
            if end - begin > tree.host_free:
                end = (begin + tree.host_free) // chunk * chunk
            if end - begin >= _LEAST_TOKENS:
                chosen = [each._replace(end=min(each.end, end // chunk)) for each in found]
                chosen = [each for each in chosen if each.end > each.begin]
            else:
                tree.unlock_host(anchor)
        moves = self._renamed(self.stack.fetch(keys, found, chosen, skip))
        if chosen:
            tree.host_reserved += end - begin
            self._asked += asked
            self._readings[row.id] = Reading(anchor, begin, end, asked, self._connector.start(moves))

    def begin_again(self, row: Row) -> bool:
        """Look again for a row that has just been matched, if the tree has less of it than at the last look.

        Returns:
            Whether it has to wait for that.
        """
        found = row.prefix + row.host_hit
        if found >= row.looked_up:
            return False
        if row.lookups == _MOST_LOOKUPS:
            row.looked_up = found
            return False
        row.lookups += 1
        self.begin(row)
        return True

    def is_ready(self, row: Row, now_ns: int) -> bool:
        """Whether a request may be tried now; what has landed for it is in the tree then."""
        reading = self._readings.get(row.id)
        if reading is None:
            return True
        if self._policy == "wait_complete":
            return False
        if self._policy == "timeout":
            if reading.deadline_ns < 0:
                timeout_s = _TIMEOUT_S + reading.asked * _TIMEOUT_S_PER_KI_TOKEN / 1024
                reading.deadline_ns = now_ns + round(timeout_s * 1e9)
            if now_ns <= reading.deadline_ns:
                return False
        self._finish(row, now_ns)
        return True

    def enter_landed(self, rows: Mapping[int, Row], now_ns: int) -> None:
        """Enter what has landed whole into the tree."""
        landed = [each for each, reading in self._readings.items() if reading.landing.end_ns <= now_ns]
        for request_id in landed:
            self._finish(rows[request_id], now_ns)

    def next_event(self, now_ns: int) -> int | None:
        """Return when something lands or somebody has waited long enough; None: nothing is read."""
        times = [reading.landing.end_ns for reading in self._readings.values()]
        times += [each.deadline_ns + 1 for each in self._readings.values() if each.deadline_ns >= 0]
        return min([time for time in times if time > now_ns], default=None)

    def forget(self, row: Row) -> None:
        """Keep nothing for a request that has gone; what is being read is lost."""
        self._close(row)

    def _finish(self, row: Row, now_ns: int) -> None:
        reading = self._close(row)
        assert reading is not None
        begin, end = reading.begin, reading.end
        landing = reading.landing
        if landing.end_ns > now_ns:
            share = max(0, now_ns - landing.begin_ns) / (landing.end_ns - landing.begin_ns)
            end = begin + int((end - begin) * share)
            end -= end % self.stack.chunk_tokens
        if end > begin:
            self._tree.enter_on_host(row.key, begin, end)

    def _close(self, row: Row) -> Reading | None:
        reading = self._readings.pop(row.id, None)
        if reading is not None:
            self._tree.unlock_host(reading.anchor)
            self._tree.host_reserved -= reading.end - reading.begin
            self._asked -= reading.asked
        return reading

    def check_integrity(self) -> None:
        """Check the tiers, and that the room that is held for what is read adds up. Raises IntegrityError."""
        self.stack.check_integrity()
        reserved = sum(reading.end - reading.begin for reading in self._readings.values())
        if reserved != self._tree.host_reserved:
            raise IntegrityError(f"{self._tree.host_reserved} tokens held on the host for {reserved}")
