"""What different prefix caches hit on the same requests, served one after the other.

No clock and no scheduler: what is left is the cache itself, its granularity and its eviction. Prompts are
segments, so block hashes and radix trees are both exact on any trace.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from simserve.errors import InputError
from simserve.kvcache.belady import count_optimal_hits
from simserve.kvcache.eviction import build_eviction
from simserve.kvcache.paged import PagedCache
from simserve.kvcache.prefix_keys import Span, block_keys, token_segments
from simserve.kvcache.radix_node import RadixNode, path_segments
from simserve.kvcache.radix_pages import RadixPages
from simserve.kvcache.run import Run
from simserve.kvcache.run_pool import RunPool
from simserve.kvcache.tiers import TierStack
from simserve.workload.request import Request


@dataclass(frozen=True, slots=True)
class PrefixHits:
    """Tokens of prompts, and how many of them were found.

    Attributes:
        cache: Which cache, in words.
        prompt_tokens, hit_tokens: Of all requests.
    """

    cache: str
    prompt_tokens: int
    hit_tokens: int

    @property
    def hit_rate(self) -> float:
        """Share of the prompt tokens that were found; 0 of no tokens."""
        return self.hit_tokens / self.prompt_tokens if self.prompt_tokens else 0.0


class _Table:
    """What `paged` and `radix_pages` keep for one request."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.runs: list[Run] = []
        self.sizes: list[int] = []
        self.tracked = 0
        self.private = 0
        self.shared_limit = 0
        self.key_spans: list[Span] | None = None
        self.published = 0


def measure_block_hits(requests: Iterable[Request], capacity_tokens: int, block_size: int = 16) -> PrefixHits:
    """Serve requests from vLLM's prefix cache: whole blocks by chained hashes, least recently used first.

    Raises:
        InputError: If a request does not fit into the cache.
    """
    cache = PagedCache(RunPool(capacity_tokens // block_size + 1, block_size), enable_prefix_caching=True)
    return _serve(requests, cache, f"blocks of {block_size}")


def measure_radix_hits(
    requests: Iterable[Request],
    capacity_tokens: int,
    page_size: int = 1,
    eviction: str = "lru",
    options: Mapping[str, Any] | None = None,
) -> PrefixHits:
    """Serve requests from a radix tree.

    Args:
        requests: In the order in which they are served.
        capacity_tokens: Tokens in memory, cut to whole pages.
        page_size: Tokens per page.
        eviction, options: See `eviction.build_eviction`.

    Raises:
        InputError: If a request does not fit into the cache, or the eviction policy is unknown.
    """
    pages = capacity_tokens // page_size + 1
    cache = RadixPages(pages, page_size, build_eviction(eviction, options))
    return _serve(requests, cache, f"radix tree, pages of {page_size}, {eviction}")


def measure_optimal_hits(
    requests: Iterable[Request], capacity_tokens: int, page_size: int = 16
) -> PrefixHits:
    """Return what no eviction policy can exceed with pages of this size (see `belady`).

    Its cost grows with the pages of all requests.

    Raises:
        InputError: If a request does not fit into the cache.
    """
    accesses = []
    prompt_tokens = 0
    pages = capacity_tokens // page_size
    for number, request in enumerate(requests):
        _check_fit(request, pages * page_size, page_size)
        prompt_tokens += request.prompt_tokens
        full, rest = divmod(request.prompt_tokens + request.output_tokens - 1, page_size)
        keys = block_keys(token_segments(request), page_size, full)
        if rest:
            keys.append(-1 - number)  # a page that is not full takes room and is never found
        accesses.append((keys, (request.prompt_tokens - 1) // page_size))
    hits = count_optimal_hits(accesses, pages) * page_size
    return PrefixHits(f"optimum, pages of {page_size}", prompt_tokens, hits)


def measure_tiered_hits(
    requests: Iterable[Request], capacity_tokens: int, stack: TierStack, page_size: int = 16
) -> PrefixHits:
    """Serve requests from a radix tree (LRU) and from the tiers behind it; everything found is fetched.

    What each tier was asked and moved is in `stack.tiers[...].counts` afterwards.

    Args:
        requests, capacity_tokens, page_size: As for `measure_radix_hits`; the capacity is the GPU's.
        stack: The tiers. Mutated.

    Raises:
        InputError: If a request does not fit into the GPU's cache.
    """
    cache = RadixPages(capacity_tokens // page_size + 1, page_size)
    chunk = stack.chunk_tokens

    def drop(node: RadixNode) -> None:
        keys = block_keys(path_segments(node), chunk, node.depth // chunk)
        stack.drop(keys[(node.depth - node.length) // chunk :])

    cache.tree.on_evict = drop
    return _serve(requests, cache, f"radix tree, pages of {page_size}, and tiers", stack)


def _serve(requests: Iterable[Request], cache: Any, name: str, stack: TierStack | None = None) -> PrefixHits:
    """Run each request to its end before the next: the KV of its last token is never made."""
    prompt_tokens = hit_tokens = 0
    size = cache.block_size
    for request in requests:
        _check_fit(request, (cache.pool.num_blocks - 1) * size, size)
        table = _Table(request)
        cache.attach(table)
        table.shared_limit = sys.maxsize
        hits, found = cache.lookup(table, request.prompt_tokens)
        prompt_tokens += request.prompt_tokens
        hit_tokens += found if stack is None else max(found, _fetch(request, stack, found))
        computed = request.prompt_tokens + request.output_tokens - 1
        cache.admit(table, hits, found, request.prompt_tokens, computed)
        cache.grow(table, request.prompt_tokens, computed)
        cache.publish(table, computed)
        cache.release(table)
        if stack is not None:
            stack.publish(_chunk_keys(request, stack, computed))
    return PrefixHits(name, prompt_tokens, hit_tokens)


def _fetch(request: Request, stack: TierStack, found: int) -> int:
    """Fetch what tiers have behind the `found` tokens of the GPU; return where it ends, in tokens."""
    keys = _chunk_keys(request, stack, request.prompt_tokens - 1)
    skip = found // stack.chunk_tokens
    stretches = stack.find(keys, skip)
    stack.fetch(keys, stretches, stretches, skip)
    return stretches[-1].end * stack.chunk_tokens if stretches else 0


def _chunk_keys(request: Request, stack: TierStack, tokens: int) -> list[int]:
    return block_keys(token_segments(request), stack.chunk_tokens, tokens // stack.chunk_tokens)


def _check_fit(request: Request, capacity_tokens: int, page_size: int) -> None:
    tokens = request.prompt_tokens + request.output_tokens - 1
    if -(-tokens // page_size) * page_size > capacity_tokens:
        raise InputError(f"request {request.id} needs {tokens} tokens, the cache holds {capacity_tokens}")
