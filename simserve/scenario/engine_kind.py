"""What an engine's kind says about the keys of its section: those that it does not read, its own defaults.

A kind's class may have: `fixed_keys`, what it does whatever the scenario says; `unused_keys`, what means
nothing to it; `default_limits`, its own defaults of `max_num_batched_tokens` and `max_num_seqs`;
`keeps_windows` False, if its KV cache keeps what a sliding window no longer reads; `takes_order`, if it works
with any `order` of requests; `takes_cache`, if it works with any `kv_cache`, else `own_cache`, the kind of
its own, and `tier_keys`, what it reads of `kv_cache` if it may have tiers behind it; `loads`, how it can take
in what is fetched from tiers, its default first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from simserve.errors import InputError
from simserve.kvcache.cache_plan import Load
from simserve.model.shape import ModelShape
from simserve.registry import lookup, names
from simserve.scenario.engine_schema import Engine
from simserve.scenario.kv_cache_schema import KVCache


def fixed_values(kind: type) -> dict[str, Any]:
    """Return what the keys that a kind does not read stand at, by key."""
    fixed: Mapping[str, Any] = getattr(kind, "fixed_keys", {})
    unused: tuple[str, ...] = getattr(kind, "unused_keys", ())
    fields = Engine.model_fields
    return {key: fields[key].get_default(call_default_factory=True) for key in unused} | dict(fixed)


def resolve_engine(engine: Engine) -> Engine:
    """Return the section as the kind takes it: keys that it does not read at what they stand at.

    Raises:
        InputError: If there is no such kind, or it does not work with the order or the KV cache.
    """
    kind = lookup("engine", engine.kind)
    changes = fixed_values(kind)
    for key, value in getattr(kind, "default_limits", {}).items():
        if getattr(engine, key) is None:
            changes[key] = value
    if engine.order is not None and not getattr(kind, "takes_order", False):
        if engine.order.policy not in ("fcfs", "priority"):
            raise InputError(
                f"order {engine.order.policy!r} does not work with engine kind {engine.kind!r}, which has an "
                f"order of its own; expected no order, or one of the kinds {', '.join(kinds_with_order())}"
            )
        changes |= {"scheduling_policy": engine.order.policy, "order": None}
    if engine.kv_cache is not None and not getattr(kind, "takes_cache", False):
        own = getattr(kind, "own_cache", "paged")
        _check_own_cache(engine.kind, engine.kv_cache, own)
        has_tiers = engine.kv_cache.tiers and hasattr(kind, "tier_keys")
        changes["kv_cache"] = engine.kv_cache.model_copy(update={"kind": own}) if has_tiers else None
    return engine.model_copy(update=changes) if changes else engine


def _check_own_cache(kind: str, cache: KVCache, own: str) -> None:
    """Refuse a KV cache that is not what a kind has anyway."""
    if cache.kind not in (None, own):
        takers = [name for name in names("engine") if getattr(lookup("engine", name), "takes_cache", False)]
        raise InputError(
            f"kv_cache {cache.kind!r} does not work with engine kind {kind!r}, which has one of its own "
            f"({own}); expected no kv_cache, or one of the kinds {', '.join(takers)}"
        )


def kinds_with_order() -> list[str]:
    """Return the engine kinds that work with any order of requests."""
    return [name for name in names("engine") if getattr(lookup("engine", name), "takes_order", False)]


def resolve_load(engine: Engine) -> Load:
    """Return how a kind takes in what is fetched from tiers.

    Raises:
        InputError: If it cannot as the scenario wants.
    """
    known: tuple[Load, ...] = getattr(lookup("engine", engine.kind), "loads", ("blocking",))
    wanted = engine.kv_cache.load if engine.kv_cache is not None else None
    if wanted is not None and wanted not in known:
        reason = ", whose requests cannot wait apart from its steps" if wanted == "async" else ""
        raise InputError(
            f"kv_cache.load {wanted!r} does not work with engine kind {engine.kind!r}{reason}; "
            f"expected {' or '.join(known)}"
        )
    return wanted or known[0]


def takes_options(engine: Engine) -> bool:
    """Return whether a kind has options of its own: every class of the user's may, others declare them."""
    return ":" in engine.kind or bool(getattr(lookup("engine", engine.kind), "option_defaults", {}))


def own_options(engine: Engine) -> dict[str, Any]:
    """Return the options that reach the kind's class: all but those that only other kinds have."""
    foreign = foreign_options(engine)
    return {name: value for name, value in engine.options.items() if name not in foreign}


def foreign_options(engine: Engine) -> list[str]:
    """Return the options that mean nothing to a kind, but to another one; a class of the user's has all."""
    if ":" in engine.kind:
        return []
    options = {name: getattr(lookup("engine", name), "option_defaults", {}) for name in names("engine")}
    known = {option for of_kind in options.values() for option in of_kind}
    return [name for name in engine.options if name in known and name not in options[engine.kind]]


def memory_shape(engine: Engine, shape: ModelShape) -> ModelShape:
    """Return the model as its KV cache is laid out: without windows, if the kind keeps every token."""
    if getattr(lookup("engine", engine.kind), "keeps_windows", True):
        return shape
    return replace(shape, layer_windows=(0,) * len(shape.layer_windows))


def attention_window(engine: Engine, shape: ModelShape) -> int | None:
    """Return the smallest window of a model whose windows its KV cache does not know, None for none."""
    if getattr(lookup("engine", engine.kind), "keeps_windows", True):
        return None
    return min((window for window in shape.layer_windows if window), default=None)
