"""The `kv_cache:` section of an engine: how prefixes are kept, what goes first, what lies behind the GPU."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from simserve.scenario.numbers import Positive, PositiveInt, Rate, Seconds
from simserve.scenario.section import Section, combination_error

OptionValue = bool | int | float | str | None


class Tier(Section):
    """Memory behind the GPU's that keeps KV entries."""

    name: str = Field(min_length=1, max_length=64, description="As the results show it: host, nvme, remote.")
    capacity_gib: Rate = Field(description="Room of the engine, all its GPUs together, GiB.")
    read_gb_per_s: Positive | None = Field(
        default=None,
        description="Rate at which each GPU reads from it, GB/s; null: over PCIe, which swaps use too.",
    )
    write_gb_per_s: Positive | None = Field(
        default=None,
        description="Rate at which each GPU writes to it, GB/s; null: as it is read.",
    )
    latency_s: Seconds = Field(default=0.0, description="Time until the first byte of a fetch, s.")
    write: Literal["through", "back", "second_use"] = Field(
        default="through",
        description="When it gets what the tier above has: at once, when it is dropped there, or when it is "
        "used for the second time.",
    )

    @model_validator(mode="after")
    def _check(self) -> Tier:
        for key in ("latency_s", "write_gb_per_s"):
            if getattr(self, key) and self.read_gb_per_s is None:
                raise combination_error(key, "is for tiers with a read_gb_per_s of their own")
        return self


class KVCache(Section):
    """What the KV cache of an engine is made of, for the kinds that take any."""

    kind: Literal["paged", "radix", "sharded"] | None = Field(
        default=None,
        description="null: the engine kind's own, else paged. paged: blocks found by chained hashes, dropped "
        "as vLLM does. radix: SGLang's tree, its tokens in pages of block_size. sharded: each sequence's "
        "blocks go round the GPUs that share it (decode_context_parallel_size) one by one; prefixes are not "
        "reused.",
    )
    placement: Literal["aligned", "rotate", "least_used"] = Field(
        default="aligned",
        description="sharded: a sequence begins at the first of these GPUs, at that of its id, or at the one "
        "with the most free blocks.",
    )
    eviction: str = Field(
        default="lru",
        min_length=1,
        description="radix: lru, mru, lfu, fifo, filo, priority, slru, tlru, ttl, cost, s3-fifo, another "
        "registered name, or package.module:Class.",
    )
    options: dict[str, OptionValue] = Field(
        default_factory=dict, description="radix: options of the eviction policy."
    )
    tiers: Annotated[tuple[Tier, ...], Field(strict=False)] = Field(
        default=(), description="Memory behind the GPU's, the nearest first."
    )
    chunk_tokens: PositiveInt = Field(default=256, description="Tokens that tiers keep and move as one.")
    prefetch: bool = Field(
        default=False,
        description="Bring what the other tiers hold of a request into the first one as soon as it comes.",
    )
    load: Literal["blocking", "layerwise", "async"] | None = Field(
        default=None,
        description="How what is fetched comes in. blocking: the step that admits the request waits for all "
        "of it; layerwise: each layer's kernels wait for theirs; async: the request alone waits, others go "
        "on. null: the engine kind's own, else blocking.",
    )
    fetch: Literal["faster", "always"] = Field(
        default="faster",
        description="Fetch what lies in a tier if that takes less time than computing it again, or always.",
    )

    @model_validator(mode="after")
    def _check(self) -> KVCache:
        names = [tier.name for tier in self.tiers]
        for name in names:
            if name == "gpu" or names.count(name) > 1:
                raise combination_error("tiers", f"the name {name!r} is taken; expected one of its own")
        if self.kind == "sharded" and self.tiers:
            raise combination_error("tiers", "keep prefixes, which the cache kind 'sharded' does not reuse")
        if self.kind == "paged" and self.tiers and self.tiers[0].write == "back":
            raise combination_error(
                "kind",
                f"tier {self.tiers[0].name} waits for what the GPU drops (write: back), which only the tree "
                "says; expected radix, or write: through or second_use",
            )
        return self
