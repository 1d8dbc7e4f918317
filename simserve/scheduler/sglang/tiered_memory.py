"""The KV pool with memory behind the GPU's: SGLang's HiCache.

The host's memory is part of the tree (`kvcache.radix_host`), what lies behind it is `storage`. A copy to
the host is begun at the next pass, and keeps what it reads on the device until it has landed. A load is begun
with the batch that needs it, and that batch computes layer by layer behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from simserve.kvcache.eviction import build_eviction
from simserve.kvcache.radix_host import HostedRadixCache
from simserve.kvcache.radix_host_node import HostedNode
from simserve.kvcache.tier import TierCounts
from simserve.kvcache.tier_moves import GPU, Move
from simserve.scheduler.batch import Batch, Transfer
from simserve.scheduler.kv_connector import KVConnector
from simserve.scheduler.sglang.config import SglangConfig
from simserve.scheduler.sglang.memory import TokenPool
from simserve.scheduler.sglang.row import Row
from simserve.scheduler.sglang.storage import Storage

# SGLang's load_back_threshold: a shorter stretch is computed again.
_LEAST_LOAD_TOKENS = 10


class TieredPool(TokenPool):
    """A token pool whose tree keeps what the device drops.

    Attributes:
        connector: Times what moves.
        counts: What the host was asked and has moved; its tokens count as the chunks that they would make.
        storage: What lies behind the host, None if nothing does.
    """

    tree: HostedRadixCache
    connector: KVConnector

    def __init__(self, config: SglangConfig) -> None:
        assert config.tiers is not None
        self._plan = plan = config.tiers
        super().__init__(config)
        self.connector = KVConnector(plan)
        self.counts = TierCounts()
        # Of admitted rows: what the device had not, and what the host had of that.
        self._asked_tokens = self._hit_tokens = 0
        self.storage: Storage | None = None
        if len(plan.specs) > 1:
            policy = config.hicache_storage_prefetch_policy
            self.storage = Storage(plan, self.tree, self.connector, policy)
        self._host = plan.specs[0].name
        self._bytes_per_token: int = plan.bytes_per_token
        self._layers = plan.layers if plan.load == "layerwise" else 0
        self._now_ns = 0
        # Rows that have entered the queue since the last pass; whether this one has put off another.
        self._arrived: list[Row] = []
        self._looks_again = False
        # Copies that wait for the next pass, with where each begins; and those under way: (landing, copies).
        self._copies: list[tuple[HostedNode, int]] = []
        self._writing: deque[tuple[int, list[tuple[HostedNode, int]]]] = deque()
        # What waits for the next pass, and what goes with the next batch.
        self._moves: list[Move] = []
        self._transfers: list[Transfer] = []
        self.tree.on_copy = self._note_copy
        self.tree.on_host_evict = self._note_host_eviction

    def _build_tree(self, config: SglangConfig) -> HostedRadixCache:
        host, options = self._plan.specs[0], config.radix_eviction_options
        return HostedRadixCache(
            config.page_size,
            build_eviction(config.radix_eviction_policy, options),
            build_eviction(config.radix_eviction_policy, options),
            host.capacity_bytes // self._plan.bytes_per_token,
            host.write,
            disable=config.disable_radix_cache,
        )

    @property
    def tier_counts(self) -> Mapping[str, TierCounts]:
        """What each tier was asked and has moved, by its name."""
        counts = {self._host: self.counts}
        return counts if self.storage is None else counts | self.storage.tier_counts

    @property
    def moves_something(self) -> bool:
        """Whether the next pass or batch has to begin a move, or to try a row again."""
        return bool(self._copies or self._moves or self._transfers or self._arrived or self._looks_again)

    @property
    def awaits_time(self) -> bool:
        """Whether time alone changes what is held: something expires, or lands."""
        is_reading = self.storage is not None and self.storage.is_reading
        return bool(self._writing) or is_reading or super().awaits_time

    def steady_tokens(self, rows: int) -> int:
        """Return the tokens that decode passes of so many rows can take without beginning a move."""
        if self.tree.write != "back":
            return self.available
        spare = rows * self.page_size if self.page_size > 1 else 0
        return self.free - spare

    # -- a pass -------------------------------------------------------------------------------------------

    def begin_pass(self, rows: Mapping[int, Row], now_ns: int) -> None:
        """Begin what waits for a pass, and take note of what has landed."""
        self._now_ns = now_ns
        self._looks_again = False
        connector = self.connector
        connector.begin_decision(now_ns)
        if self._copies:
            tokens = sum(node.depth - begin for node, begin in self._copies)
            landing = connector.start([Move(GPU, self._host, self._bytes(tokens))])
            self._writing.append((landing.end_ns, self._copies))
            self._copies = []
        if self._moves:
            connector.start(self._moves)
            self._moves = []
        while self._writing and self._writing[0][0] <= now_ns:
            for node, begin in self._writing.popleft()[1]:
                if self.storage is not None:
                    connector.start(self.storage.store(node, begin))
                self.tree.unlock(node)
        if self.storage is not None:
            self.storage.enter_landed(rows, now_ns)
            for row in self._arrived:
                if row.id in rows:
                    self.storage.begin(row)
        self._arrived.clear()

    def end_pass(self, batch: Batch | None) -> None:
        """Let a batch wait for what it needs."""
        if batch is not None and self._transfers:
            batch.transfers, self._transfers = self._transfers, []
        self.connector.end_decision()

    def next_event(self, now_ns: int) -> int | None:
        """Return when something lands that a pass takes note of; None: nothing is under way."""
        times = [end_ns for end_ns, _ in self._writing if end_ns > now_ns]
        if self.storage is not None:
            read_ns = self.storage.next_event(now_ns)
            if read_ns is not None:
                times.append(read_ns)
        return min(times, default=None)

    # -- requests -----------------------------------------------------------------------------------------

    def await_turn(self, row: Row) -> None:
        """Note that a row has entered the queue: what the tree misses of it is to be read ahead."""
        if self.storage is not None:
            self._arrived.append(row)

    def look_up(self, row: Row) -> bool:
        """Match a waiting row that is to be tried now; False if it has to wait for what is read for it."""
        storage = self.storage
        if storage is not None and not storage.is_ready(row, self._now_ns):
            return False
        self.find(row, row.known - 1)
        if storage is None or not storage.begin_again(row):
            return True
        self._looks_again = True
        return False

    def forget(self, row: Row) -> None:
        """Keep nothing for a row that has gone."""
        if self.storage is not None:
            self.storage.forget(row)

    def find(self, row: Row, tokens: int) -> int:
        """Match the first `tokens` tokens of a row on both sides; return how many of them the device has."""
        match = self.tree.find(row.key, tokens)
        row.node = match.node
        row.prefix = row.on_device = match.tokens
        row.host_node, row.host_hit = match.host_node, match.host_tokens
        row.matched = min(row.prefix + row.host_hit, row.known - 1)
        return row.prefix

    def load_back(self, row: Row) -> bool:
        """Put what the host has of an admitted row on the device, whole or not at all; evicts for it.

        Returns:
            Whether the row's prefix reaches to the end of it now.
        """
        tokens, node = row.host_hit, row.host_node
        assert isinstance(node, HostedNode)
        row.host_hit = 0
        if tokens < _LEAST_LOAD_TOKENS:
            return False
        tree = self.tree
        tree.lock(node)
        has_room = self.make_room(tokens)
        if has_room:
            self.free -= tokens
            tree.load_back(node)
            row.node, row.prefix = node, row.prefix + tokens
            size_bytes = self._bytes(tokens)
            self.counts.read_bytes += size_bytes
            move = Move(self._host, GPU, size_bytes)
            self._transfers += self.connector.awaited([move], layers=self._layers)
        tree.unlock(node)
        return has_room

    def hold(self, row: Row) -> None:
        """Lock the prefix that the row has found."""
        self._asked_tokens += row.known - 1 - row.on_device
        self._hit_tokens += row.matched - row.on_device
        self.counts.asked_chunks = self._asked_tokens // self._plan.chunk_tokens
        self.counts.hit_chunks = self._hit_tokens // self._plan.chunk_tokens
        super().hold(row)

    # -- what moves ---------------------------------------------------------------------------------------

    def _bytes(self, tokens: int) -> int:
        return tokens * self._bytes_per_token

    def _note_copy(self, node: HostedNode) -> None:
        """Begin to copy a node: at the next pass, or at once where the device waits for its room."""
        size_bytes = self._bytes(node.length)
        self.counts.written_bytes += size_bytes
        begin = node.depth - node.length
        if self.tree.write != "back":
            self.tree.lock(node)
            self._copies.append((node, begin))
            return
        # SGLang's scheduler stands still until it has landed.
        transfers = self.connector.awaited([Move(GPU, self._host, size_bytes)])
        self._transfers += [each._replace(awaited=True) for each in transfers]
        if self.storage is not None:
            self._moves += self.storage.store(node, begin)

    def _note_host_eviction(self, node: HostedNode) -> None:
        self.counts.dropped_bytes += self._bytes(node.length)
        if self.storage is not None:
            self._moves += self.storage.drop(node)

    def check_integrity(self, rows: Sequence[Row], held: Sequence[int]) -> None:
        """Check both sides of the tree, what lies behind, and that all adds up. Raises IntegrityError."""
        super().check_integrity(rows, held)
        if self.storage is not None:
            self.storage.check_integrity()
