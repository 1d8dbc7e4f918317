"""A scheduler's options as JSON, and back: what a decision log says of how its scheduler was made."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from simserve.errors import InputError
from simserve.kvcache.cache_plan import CachePlan
from simserve.registry import lookup, names
from simserve.scheduler.config import KVGroup, SchedulerConfig
from simserve.scheduler.orders.order import OrderPlan, OrderSettings, Targets


def encode_config(config: SchedulerConfig) -> dict[str, Any]:
    """Return what differs from the defaults.

    Raises:
        InputError: If the options hold what a log cannot: speculative decoding, or tiers behind the KV cache.
    """
    if config.speculative is not None or (config.cache is not None and config.cache.tiers is not None):
        raise InputError(
            "a decision log holds neither speculative decoding nor kv_cache.tiers; expected an engine without"
        )
    encoded = {
        field.name: getattr(config, field.name)
        for field in fields(config)
        if field.name == "num_gpu_blocks" or getattr(config, field.name) != field.default
    }
    if "kv_groups" in encoded:
        encoded["kv_groups"] = [group.window for group in config.kv_groups]
    if config.cache is not None:
        encoded["cache"] = asdict(config.cache)
        del encoded["cache"]["tiers"]
    if config.order is not None:
        encoded["order"] = _encode_order(config.order)
    return encoded


def decode_config(encoded: dict[str, Any]) -> SchedulerConfig:
    """Return the options that `encode_config` has described.

    Raises:
        InputError: If there are none of these names, or their values are none.
    """
    options = dict(encoded)
    try:
        if "kv_groups" in options:
            options["kv_groups"] = tuple(KVGroup(window) for window in options["kv_groups"])
        if "prefill_profile" in options:
            profile = options["prefill_profile"]
            options["prefill_profile"] = tuple((tokens, seconds) for tokens, seconds in profile)
        if "cache" in options:
            options["cache"] = CachePlan(**options["cache"])
        if "order" in options:
            options["order"] = _decode_order(options["order"])
        return SchedulerConfig(**options)
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(f"malformed decision log: config: {error}") from error


def _encode_order(plan: OrderPlan) -> dict[str, Any]:
    settings = plan.settings
    predictor = settings.predictor
    return {
        "policy": plan.policy,
        "options": dict(plan.options),
        "seed": settings.seed,
        "predictor": {"kind": _name_of("predictor", type(predictor)), "options": predictor.options},
        "targets": asdict(settings.targets),
        "class_targets": {name: asdict(each) for name, each in settings.class_targets.items()},
    }


def _decode_order(encoded: dict[str, Any]) -> OrderPlan:
    predictor = lookup("predictor", encoded["predictor"]["kind"])
    settings = OrderSettings(
        seed=encoded["seed"],
        predictor=predictor(encoded["seed"], **encoded["predictor"]["options"]),
        targets=Targets(**encoded["targets"]),
        class_targets={name: Targets(**each) for name, each in encoded["class_targets"].items()},
    )
    return OrderPlan(encoded["policy"], settings, encoded["options"])


def _name_of(kind: str, policy: type) -> str:
    """Return the name that finds a policy's class."""
    registered = (name for name in names(kind) if lookup(kind, name) is policy)
    return next(registered, f"{policy.__module__}:{policy.__qualname__}")
