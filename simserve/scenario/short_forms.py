"""Short forms of a scenario's sections, and the long forms they stand for.

| short | long |
|---|---|
| `pools: h100-sxm` | `pools: [{hardware: h100-sxm}]` |
| `pools: {hardware: h100-sxm, replicas: 2}` | `pools: [{hardware: h100-sxm, replicas: 2}]` |
| an entry `h100-sxm` of `pools` | `{hardware: h100-sxm}` |
| `engine: vllm` | `engine: {kind: vllm}` |
| `order: sjf` (of an engine) | `order: {policy: sjf}` |
| `kv_cache: radix` (of an engine) | `kv_cache: {kind: radix}` |
| `queue: 100` | `queue: {limit: 100}` |
| `router: round_robin` | `router: {policy: round_robin}` |
| `cost: analytic` | `cost: {kind: analytic}` |

Those of the workload stand in `simserve.scenario.workload_schema`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simserve.scenario.workload_schema import expand_workload

# Section -> the key that a plain value stands for, and the types of such a value.
_SCENARIO_KEYS = {"router": ("policy", str), "cost": ("kind", str)}
_POOL_KEYS = {"engine": ("kind", str), "queue": ("limit", int)}
_ENGINE_KEYS = {"order": ("policy", str), "kv_cache": ("kind", str)}


def expand_short_forms(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a scenario's mapping with the short forms of its sections in their long form.

    The input is not changed, and what has no short form (or a wrong type) is kept for validation to judge.
    Several unnamed pools get the names `pool-0`, `pool-1`, ...
    """
    result = _expand_keys(data, _SCENARIO_KEYS)
    if "workload" in result:
        result["workload"] = expand_workload(result["workload"])
    pools = result.get("pools")
    if isinstance(pools, str | Mapping):
        pools = [pools]
    if isinstance(pools, list | tuple):
        result["pools"] = [_expand_pool(pool, index, len(pools)) for index, pool in enumerate(pools)]
    return result


def _expand_pool(pool: Any, index: int, count: int) -> Any:
    if isinstance(pool, str):
        pool = {"hardware": pool}
    if not isinstance(pool, Mapping):
        return pool
    result = _expand_keys(pool, _POOL_KEYS)
    if isinstance(result.get("engine"), Mapping):
        result["engine"] = _expand_keys(result["engine"], _ENGINE_KEYS)
    if count > 1 and "name" not in result:
        result["name"] = f"pool-{index}"
    return result


def _expand_keys(data: Mapping[str, Any], keys: Mapping[str, tuple[str, type]]) -> dict[str, Any]:
    result = dict(data)
    for key, (inner, kind) in keys.items():
        value = result.get(key)
        if isinstance(value, kind) and not isinstance(value, bool):
            result[key] = {inner: value}
    return result
