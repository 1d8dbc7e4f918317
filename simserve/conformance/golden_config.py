"""The configuration of a golden log: a scheduler's options under vLLM's names, checked."""

from __future__ import annotations

from typing import Any

from simserve.conformance.checker import Checker
from simserve.errors import nearest

# Every key of a log's `config`, with its smallest value where it is a whole number.
_CONFIG_MINIMA = {
    "num_gpu_blocks": 2,
    "block_size": 1,
    "max_num_seqs": 1,
    "max_num_batched_tokens": 1,
    "max_model_len": 1,
    "long_prefill_token_threshold": 0,
    "pipeline_parallel_size": 1,
}
_CONFIG_FLAGS = (
    "enable_prefix_caching",
    "enable_chunked_prefill",
    "scheduler_reserve_full_isl",
    "async_scheduling",
)
_CONFIG_CHOICES = {"policy": ("fcfs", "priority")}
_SPEC_MODES = ("ngram", "eagle", "draft_model")


def read_config(check: Checker, raw: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Read a log's `config`: vLLM's options by name, `spec` as (mode, k) or None, a window a KV group.

    Returns:
        The options (`kv_groups`: the window in tokens, None for full attention), and a note for every
        key that the format does not have.

    Raises:
        InputError: If a key is missing or has a value that the format does not allow.
    """
    config: dict[str, Any] = {}
    for key, minimum in _CONFIG_MINIMA.items():
        config[key] = check.whole(raw, key, "config", minimum)
    for key in _CONFIG_FLAGS:
        if not isinstance(check.value(raw, key, "config"), bool):
            check.fail(f"config.{key}", f"expected true or false, got {raw[key]!r}")
        config[key] = raw[key]
    for key, choices in _CONFIG_CHOICES.items():
        value = check.value(raw, key, "config")
        if value not in choices:
            check.fail(f"config.{key}", f"unknown value {value!r}{nearest(str(value), choices)}")
        config[key] = value
    config["spec"] = _read_spec(check, check.value(raw, "spec", "config"))
    groups = check.array(raw, "kv_groups", "config")
    config["kv_groups"] = [
        _read_window(check, group, f"config.kv_groups[{n}]") for n, group in enumerate(groups)
    ]
    if not groups:
        check.fail("config.kv_groups", "expected at least one group")
    unknown = [key for key in raw if key not in config]
    return config, [
        f"{check.file}: config.{key} is not part of the format and was ignored" for key in unknown
    ]


def _read_spec(check: Checker, spec: Any) -> tuple[str, int] | None:
    if spec is None:
        return None
    spec = check.record(spec, "config.spec")
    mode = check.value(spec, "mode", "config.spec")
    if mode not in _SPEC_MODES:
        check.fail("config.spec.mode", f"unknown value {mode!r}{nearest(str(mode), _SPEC_MODES)}")
    return mode, check.whole(spec, "k", "config.spec", 1)


def _read_window(check: Checker, group: Any, where: str) -> int | None:
    """The window of a KV group in tokens; None for full attention."""
    kind = check.value(check.record(group, where), "type", where)
    if kind not in ("full", "swa"):
        check.fail(f"{where}.type", f"unknown value {kind!r}; valid: full, swa")
    return check.whole(group, "window", where, 1) if kind == "swa" else None
