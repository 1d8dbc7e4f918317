"""One registry for every kind of policy: engines, schedulers, routers, orders, eviction.

A policy is found by its registered name, or by `package.module:Class` if it is importable already.
"""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable
from typing import Any

from simserve.errors import InputError, UnknownNameError, nearest

_POLICIES: dict[str, dict[str, Any]] = {}
_imports_forbidden = False
# Modules whose import registers the built-in policies of a kind; imported on first use, so that
# `simserve --help` pays for none of them. One that is called like its policy is imported for that alone.
_BUILTIN_MODULES: dict[str, tuple[str, ...]] = {
    "engine": (
        "simserve.scheduler.vllm",
        "simserve.scheduler.sglang",
        "simserve.scheduler.sarathi",
        "simserve.scheduler.vllm_v0",
        "simserve.scheduler.orca",
        "simserve.scheduler.static",
        "simserve.scheduler.dynamic",
        "simserve.scheduler.tensorrt_llm",
        "simserve.scheduler.lightllm",
        "simserve.scheduler.fastserve",
    ),
    "router": ("simserve.cluster.routers", "simserve.cluster.affinity_routers"),
    "eviction": ("simserve.kvcache.eviction_orders", "simserve.kvcache.eviction_adaptive"),
    "order": (
        "simserve.scheduler.orders.arrival",
        "simserve.scheduler.orders.shortest",
        "simserve.scheduler.orders.deadlines",
        "simserve.scheduler.orders.fair_share",
        "simserve.scheduler.orders.feedback",
    ),
    "length_estimate": ("simserve.scheduler.output_estimates",),
    "predictor": ("simserve.scheduler.orders.predictors",),
}
# What a class of a kind must have to be one: told before anything is called.
_NEEDED_METHODS: dict[str, tuple[str, ...]] = {
    "engine": ("add", "abort", "schedule", "complete"),
    "router": ("choose", "sent", "ended"),
    "order": ("key", "place", "group", "arrived", "admitted", "served", "ended", "victim"),
    "predictor": ("predict",),
    "length_estimate": ("total_outputs", "begin", "fits", "record"),
    "eviction": ("key", "offer", "pop", "evicted", "find_stale", "clear"),
}


def register(kind: str, name: str) -> Callable[[Any], Any]:
    """Return a decorator that registers a class or function as policy `name` of `kind`."""

    def add(policy: Any) -> Any:
        _POLICIES.setdefault(kind, {})[name] = policy
        return policy

    return add


def forbid_imports() -> None:
    """Import no policies from now on: for a process that is given scenarios by strangers."""
    global _imports_forbidden
    _imports_forbidden = True


def names(kind: str) -> list[str]:
    """Return the registered names of a kind, sorted."""
    for module in _BUILTIN_MODULES.get(kind, ()):
        importlib.import_module(module)
    return sorted(_POLICIES.get(kind, {}))


def lookup(kind: str, name: str) -> Any:
    """Return the policy registered as `name`, or imported from `package.module:Class`.

    Raises:
        UnknownNameError: If no such policy is registered.
        InputError: If `package.module:Class` cannot or may not be imported, or is no such policy.
    """
    if ":" in name:
        if _imports_forbidden:
            raise InputError(f"{name!r} would import code, which is not allowed here")
        return _import_policy(kind, name)
    if name not in _POLICIES.get(kind, {}):
        own = name.replace("-", "_")
        for module in _BUILTIN_MODULES.get(kind, ()):
            if module.rpartition(".")[2] == own:
                importlib.import_module(module)
    if name not in _POLICIES.get(kind, {}):
        valid = names(kind)
        if name not in valid:
            raise UnknownNameError(kind, name, valid)
    return _POLICIES[kind][name]


def describe(kind: str) -> dict[str, str]:
    """Return the first docstring line of every policy of a kind, by name."""
    return {name: (lookup(kind, name).__doc__ or "").strip().split("\n")[0] for name in names(kind)}


def _import_policy(kind: str, path: str) -> Any:
    module_name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever a module of the user's raises
        hint = _place_in_import(error)
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            hint = "; put the folder that holds it on PYTHONPATH: `PYTHONPATH=FOLDER simserve ...`"
        raise InputError(f"cannot import {kind} {path!r}: {_describe(error)}{hint}") from error
    policy = getattr(module, attribute, None)
    if policy is None:
        own = [value for value in vars(module).values() if getattr(value, "__module__", "") == module_name]
        hint = nearest(attribute, [value.__name__ for value in own if _is_policy(kind, value)])
        raise InputError(f"cannot import {kind} {path!r}: module {module_name} has no {attribute!r}{hint}")
    if not _is_policy(kind, policy):
        needed = ", ".join(_NEEDED_METHODS.get(kind, ()))
        raise InputError(f"{path!r} is no {kind}: expected a class with {needed}")
    return policy


def _describe(error: Exception) -> str:
    return str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"


def _place_in_import(error: Exception) -> str:
    """Return where a module failed that was found; "" where it was not."""
    if isinstance(error, SyntaxError):  # says it itself
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "importlib" not in frame.filename and frame.filename != __file__]
    return f" ({own[-1].filename}:{own[-1].lineno})" if own else ""


def _is_policy(kind: str, value: Any) -> bool:
    """Whether a value is a class with all that one of a kind must have."""
    return isinstance(value, type) and all(hasattr(value, name) for name in _NEEDED_METHODS.get(kind, ()))
