"""What an engine's KV cache is made of: blocks or a radix tree, its eviction, tiers behind the GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from simserve.errors import InputError
from simserve.kvcache.eviction import build_eviction
from simserve.kvcache.paged import PagedCache
from simserve.kvcache.radix_pages import RadixPages
from simserve.kvcache.run_pool import RunPool
from simserve.kvcache.sharded import ShardedCache
from simserve.kvcache.tier import TierSpec
from simserve.kvcache.tiered_cache import RecomputeTime, TieredCache
from simserve.kvcache.tiers import TierStack

CacheKind = Literal["paged", "radix", "sharded"]
# How a request takes in what is fetched for it: its step waits for all of it, or for each layer's part in
# turn; or it waits by itself while other requests go on.
Load = Literal["blocking", "layerwise", "async"]


@dataclass(frozen=True, slots=True)
class TierPlan:
    """The tiers behind the KV pool of one engine.

    Attributes:
        specs: The tiers, the nearest to the GPU first.
        own_paths: For each tier whether it is read and written over paths of its own, and not over PCIe with
            the swaps.
        bytes_per_token: KV bytes of a token on all GPUs of the engine.
        gpus: How many share these bytes evenly, each with paths of its own.
        chunk_tokens, recompute_s, prefetch: See `tiers.TierStack` and `tiered_cache.TieredCache`.
        load: How what is fetched comes in.
        layers: Layers that one GPU holds, for loads layer by layer.
    """

    specs: tuple[TierSpec, ...]
    own_paths: tuple[bool, ...]
    bytes_per_token: int
    gpus: int = 1
    chunk_tokens: int = 256
    recompute_s: RecomputeTime | None = None
    prefetch: bool = False
    load: Load = "blocking"
    layers: int = 1


@dataclass(frozen=True, slots=True)
class CachePlan:
    """How to build the KV cache of a scheduler that takes any.

    Attributes:
        kind: "paged": blocks found by chained hashes, dropped as vLLM does; "radix": SGLang's tree, token for
            token in pages of the block size; "sharded": blocks spread over ranks that share each sequence.
        eviction, options: Of the tree, see `eviction.build_eviction`.
        tiers: What lies behind the GPU; None: nothing.
        ranks, placement: Of "sharded", see `sharded.ShardedCache`.
    """

    kind: CacheKind = "paged"
    eviction: str = "lru"
    options: Mapping[str, Any] = field(default_factory=dict)
    tiers: TierPlan | None = None
    ranks: int = 1
    placement: str = "aligned"

    def build(self, num_blocks: int, block_size: int, *, enable_prefix_caching: bool) -> Any:
        """Return an empty cache.

        Args:
            num_blocks: Blocks or pages, one of which is never handed out.
            block_size: Tokens of each.
            enable_prefix_caching: Publish and find prefixes.

        Raises:
            InputError: If the eviction policy is unknown, or the first tier waits for what the GPU drops and
                the cache does not say it.
        """
        if self.kind == "sharded":
            return ShardedCache(self.ranks, num_blocks - 1, block_size // self.ranks, self.placement)
        cache: PagedCache | RadixPages
        if self.kind == "radix":
            eviction = build_eviction(self.eviction, self.options)
            cache = RadixPages(num_blocks, block_size, eviction, enable_prefix_caching=enable_prefix_caching)
        else:
            cache = PagedCache(RunPool(num_blocks, block_size), enable_prefix_caching=enable_prefix_caching)
        tiers = self.tiers
        if tiers is None:
            return cache
        if self.kind == "paged" and tiers.specs and tiers.specs[0].write == "back":
            raise InputError(
                f"tier {tiers.specs[0].name}: write: back needs the cache kind 'radix', whose tree says what "
                "it drops: expected radix, or through or second_use with 'paged'"
            )
        stack = TierStack(tiers.specs, tiers.bytes_per_token, tiers.chunk_tokens)
        layers = tiers.layers if tiers.load == "layerwise" else 1
        return TieredCache(cache, stack, tiers.recompute_s, prefetch=tiers.prefetch, layers=layers)
