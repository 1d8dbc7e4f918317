"""Warnings: keys of a valid scenario that mean nothing with the others."""

from __future__ import annotations

from collections.abc import Iterator

from simserve.registry import lookup
from simserve.scenario.engine_kind import fixed_values, foreign_options, takes_options
from simserve.scenario.kv_cache_schema import KVCache
from simserve.scenario.order_build import unread_keys
from simserve.scenario.schema import Cost, Engine, Pool, Router, Scenario
from simserve.scenario.section import Section

# Terms of the step time that a kind of cost reads.
_COST_TERMS = (
    "base_s", "per_prefill_token_s", "per_decode_s", "per_context_token_s", "tables", "aic",
    "sustained_rates",
)  # fmt: skip
_COST_TERMS_READ = {
    "analytic": ("sustained_rates",),
    "measured": ("tables", "aic", "sustained_rates"),
    "constant": ("base_s",),
    "linear": _COST_TERMS[:4],
}

# Keys of `kv_cache` that each kind of cache reads.
_TIER_KEYS = ("tiers", "chunk_tokens", "prefetch", "fetch", "load")
_CACHE_KEYS_READ = {
    "paged": _TIER_KEYS,
    "radix": ("eviction", "options", *_TIER_KEYS),
    "sharded": ("placement",),
}


def check_scenario(scenario: Scenario) -> list[str]:
    """Return a warning for each key that differs from its default and has no effect.

    An engine class names keys that its kind does not read (see `engine_kind`); a router class names those
    that it reads in `option_defaults`.
    """
    warnings: list[str] = []
    for index, pool in enumerate(scenario.pools):
        warnings.extend(_check_pool(pool, f"pools.{index}", scenario.cost))
    warnings.extend(_check_router(scenario.router, sum(pool.replicas for pool in scenario.pools)))
    for term in _changed(scenario.cost):
        if term in _COST_TERMS and term not in _COST_TERMS_READ[scenario.cost.kind]:
            warnings.append(f"cost.{term} means nothing for kind {scenario.cost.kind!r}")
    return warnings


def _check_pool(pool: Pool, path: str, cost: Cost) -> Iterator[str]:
    if pool.queue.limit is None and pool.queue.policy != "reject":
        yield f"{path}.queue.policy means nothing without a limit"
    yield from _check_engine(pool.engine, f"{path}.engine", cost)


def _check_engine(engine: Engine, path: str, cost: Cost) -> Iterator[str]:
    changed = _changed(engine)
    fixed = fixed_values(lookup("engine", engine.kind))
    for key in changed:
        if key in fixed and getattr(engine, key) != fixed[key]:
            yield f"{path}.{key} means nothing for kind {engine.kind!r}"
    if engine.options and not takes_options(engine):
        names = ", ".join(engine.options)
        yield f"{path}.options ({names}) mean nothing to kind {engine.kind!r}, which has none of its own"
    elif engine.options:
        for name in foreign_options(engine):
            yield f"{path}.options.{name} means nothing for kind {engine.kind!r}"
    if engine.order is not None:
        for key in unread_keys(engine.order):
            yield f"{path}.order.{key} means nothing for order {engine.order.policy!r}"
    if engine.kv_cache is not None:
        yield from _check_cache(engine.kv_cache, f"{path}.kv_cache", engine)
    if not engine.enable_chunked_prefill and engine.long_prefill_token_threshold:
        yield (
            f"{path}.long_prefill_token_threshold splits prompts although enable_chunked_prefill is false, "
            "as in vLLM"
        )
    if engine.num_gpu_blocks_override is not None and "gpu_memory_utilization" in changed:
        yield f"{path}.gpu_memory_utilization means nothing with num_gpu_blocks_override"
    if engine.speculative is not None:
        yield from _check_speculative(engine, f"{path}.speculative")
    if cost.kind in ("constant", "linear"):
        for key in ("quantization", "enforce_eager", "cpu_offload_gb"):
            if key in changed:
                yield f"{path}.{key} does not change step times: cost.kind is {cost.kind!r}"


def _check_cache(cache: KVCache, path: str, engine: Engine) -> Iterator[str]:
    kind = lookup("engine", engine.kind)
    takes_any = getattr(kind, "takes_cache", False)
    read: tuple[str, ...] = getattr(kind, "tier_keys", ())
    if takes_any:
        read = _CACHE_KEYS_READ[cache.kind or "paged"]
    for key in _changed(cache):
        if key != "kind" and key not in read:
            owner = f"kv_cache {cache.kind or 'paged'!r}" if takes_any else f"kind {engine.kind!r}"
            yield f"{path}.{key} means nothing for {owner}"
        elif key in _TIER_KEYS[1:] and not cache.tiers:
            yield f"{path}.{key} means nothing without tiers"
        elif key == "prefetch" and len(cache.tiers) == 1:
            yield f"{path}.prefetch means nothing with one tier"
    if "tiers" in read and cache.tiers and not engine.enable_prefix_caching:
        yield f"{path}.tiers keep prefixes although enable_prefix_caching is false"


def _check_speculative(engine: Engine, path: str) -> Iterator[str]:
    assert engine.speculative is not None
    if engine.speculative.method == "ngram" and engine.speculative.model is not None:
        yield f"{path}.model means nothing for method 'ngram'"


def _check_router(router: Router, instances: int) -> Iterator[str]:
    changed = _changed(router)
    read = getattr(lookup("router", router.policy), "option_defaults", {})
    for key in changed:
        if key not in ("policy", "options", *read):
            yield f"router.{key} means nothing for policy {router.policy!r}"
    if instances == 1 and "policy" in changed:
        yield f"router.policy {router.policy!r} has no choice: there is one instance"


def _changed(section: Section) -> list[str]:
    """Return the keys of a section whose values are not the defaults, in the section's order."""
    fields = type(section).model_fields
    return [
        key
        for key, field in fields.items()
        if getattr(section, key) != field.get_default(call_default_factory=True)
    ]
