"""In which order the waiting requests are tried: SGLang's schedule policies.

All sorts are stable on the order of the queue. Cache-aware policies look every waiting request up in the tree
first, which refreshes and splits its nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from simserve.kvcache.radix import RadixCache
from simserve.kvcache.radix_node import RadixNode
from simserve.rng import keyed_uniform
from simserve.scheduler.sglang.config import CACHE_AWARE_POLICIES, SglangConfig
from simserve.scheduler.sglang.memory import TokenPool
from simserve.scheduler.sglang.row import Row

# SGLang 0.5.23: above this queue length `lpm` and `hrrn` are first come first served, and no more prefixes
# are refreshed; the refresh comes every so many passes.
_MOST_MATCHED = 128
_REFRESH_INTERVAL = 32


class QueueOrder:
    """Sorts the waiting queue.

    Args:
        config: Options.
        pool: Its tree is matched against, and so changed.

    Attributes:
        policy: The one in use: without the radix cache, cache-aware ones are `fcfs`.
        deprioritized: Of the last sort: requests that wait for one ahead of them to cache their prefix.
    """

    def __init__(self, config: SglangConfig, pool: TokenPool) -> None:
        self._config = config
        self._pool = pool
        self.policy = config.schedule_policy
        if config.disable_radix_cache and self.policy in CACHE_AWARE_POLICIES:
            self.policy = "fcfs"
        self.deprioritized: list[Row] = []
        self._scratch = RadixCache(1)
        self._sign = 1 if config.schedule_low_priority_values_first else -1
        self._sorts = 0
        self._refreshes = 0

    def sort(self, queue: list[Row], running: list[Row], processed_tokens: int) -> None:
        """Put the queue in order, in place.

        Args:
            queue: Waiting requests.
            running: The running batch (for `routing-key`).
            processed_tokens: Prefill tokens that the engine has processed (for `hrrn`).
        """
        self._sorts += 1
        policy = self.policy
        if policy in ("lpm", "hrrn") and len(queue) > _MOST_MATCHED:
            policy = "unsorted"
        if policy in CACHE_AWARE_POLICIES:
            deprioritized = self._match(queue)
            if policy == "lpm":
                queue.sort(key=lambda row: 1 if row.id in deprioritized else -row.matched)
            elif policy == "hrrn":
                queue.sort(key=lambda row: (*_response_rank(row, deprioritized, processed_tokens), row.id))
            elif policy == "dfs-weight":
                _sort_by_weight(queue, self._pool.tree.root)
            else:
                queue.sort(key=lambda row: (row.id in deprioritized, prefill_work(row), row.stamp))
            return
        self._sort_without_cache(queue, running, policy)
        self._refresh(queue)

    def chunk_limit(self, chunked: Row, queue: list[Row], budget: int) -> int | None:
        """Return how much of its budget the running chunk may take, to leave room for shorter requests."""
        page = self._pool.page_size
        if self.policy != "shortest-prefill-first" or budget < 2 * page:
            return None
        remaining = chunked.known - chunked.prefix
        reserved = 0
        for row in queue:
            work = prefill_work(row)
            charge = self._pool.whole_pages(work)
            if work >= remaining or reserved + charge > budget - page:
                break
            reserved += charge
        return (budget - reserved) // page * page if reserved else None

    def _sort_without_cache(self, queue: list[Row], running: list[Row], policy: str) -> None:
        by_priority = self._config.enable_priority_scheduling
        sign = self._sign
        if policy == "fcfs" and by_priority:
            queue.sort(key=lambda row: (_priority(row) * sign, row.stamp))
        elif policy == "lof":
            if by_priority:
                queue.sort(key=lambda row: (_priority(row) * sign, -row.max_new))
            else:
                queue.sort(key=lambda row: -row.max_new)
        elif policy == "random":
            seed, turn = self._config.random_seed, self._sorts
            queue.sort(key=lambda row: keyed_uniform(seed, row.id, "schedule_policy", turn))
        elif policy == "routing-key":
            counts = Counter(row.request.session for row in running if row.request.session)
            if counts:
                queue.sort(key=_routing_rank(counts))

    def _refresh(self, queue: list[Row]) -> None:
        """Touch the cached prefixes of waiting requests now and then, the head last: LRU spares them."""
        tree, config = self._pool.tree, self._config
        if not queue or tree.disable or not config.waiting_prefix_refresh:
            return
        if config.radix_eviction_policy != "lru":
            return
        if self._refreshes % _REFRESH_INTERVAL == 0:
            for row in reversed(queue[:_MOST_MATCHED]):
                tree.match(row.key, row.known)
        self._refreshes += 1

    def _match(self, queue: list[Row]) -> dict[int, None]:
        """Look every request up; return the ids of those that share a new prefix with one ahead of them."""
        pool, scratch = self._pool, self._scratch
        scratch.reset()
        check = self._config.in_batch_check_threshold
        enough = self._config.in_batch_deprioritize_threshold
        self.deprioritized = []
        for row in queue:
            if pool.find(row, row.known) > check:
                continue
            if scratch.match(row.key, row.known)[1] >= enough:
                self.deprioritized.append(row)
            else:
                scratch.insert(row.key, row.known)
        return dict.fromkeys(row.id for row in self.deprioritized)


def prefill_work(row: Row) -> int:
    """Return the tokens that a waiting request has to compute, as far as its last match knows; at least 1."""
    return max(1, row.known - row.matched)


def _priority(row: Row) -> int:
    return row.priority or 0


def _response_rank(row: Row, deprioritized: dict[int, None], processed_tokens: int) -> tuple[float, ...]:
    """Highest response ratio next: tokens processed while it waited, over those it has to compute."""
    if row.id in deprioritized:
        return (float("inf"),)
    uncached = row.request.prompt_tokens - row.matched
    if uncached <= 0:
        return (float("-inf"),)
    return (-(max(0, processed_tokens - row.counted_at_entry) / uncached),)


def _routing_rank(counts: Counter[str]) -> Callable[[Row], tuple[int, int, str]]:
    """Sort by how many running requests have the same key."""

    def rank(row: Row) -> tuple[int, int, str]:
        key = row.request.session
        return (0, -counts[key], key) if counts[key] else (1, 0, key)

    return rank


def _sort_by_weight(queue: list[Row], root: RadixNode) -> None:
    """Depth first through the tree, subtrees with most waiting requests first; a node after its children."""
    waiting: dict[RadixNode, list[Row]] = {}
    weights: Counter[RadixNode] = Counter()
    for row in queue:
        node = row.node
        waiting.setdefault(node, []).append(row)
        weights[node] += 1
        while node.parent is not None:
            node = node.parent
            weights[node] += 1
    queue.clear()
    stack = [(root, False)]
    while stack:
        node, is_done = stack.pop()
        if is_done:
            queue += waiting.get(node, ())
            continue
        stack.append((node, True))
        children = [child for child in node.children.values() if child in weights]
        children.sort(key=lambda child: -weights[child])
        stack += [(child, False) for child in reversed(children)]
