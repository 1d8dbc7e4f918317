"""Golden logs of SGLang's event loop, read and checked from JSON (format `simserve-sglang-loop/1`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simserve.conformance.checker import Checker
from simserve.conformance.golden import read_prompt, read_records, read_request_rows, read_results
from simserve.workload.request import Segment

LOOP_FORMAT = "simserve-sglang-loop/1"
# The one token that ends requests: a stream of its own, since no other has it.
EOS_STREAM = -1
# First stream of generated tokens (format's definition: 20000 + id).
_OUTPUT_STREAM = 20_000

_MINIMA = {
    "pool_tokens": 1,
    "page_size": 1,
    "max_running_requests": 1,
    "max_prefill_tokens": 1,
    "context_len": 1,
    "priority_scheduling_preemption_threshold": 0,
    "prefill_decode_interval": 0,
    "prefill_decode_interval_min_bs": 0,
}
_MAYBE_NULL = ("chunked_prefill_size", "prefill_max_requests")
_FLAGS = (
    "enable_mixed_chunk",
    "disable_radix_cache",
    "overlap",
    "enable_priority_scheduling",
    "schedule_low_priority_values_first",
)
_TEXTS = ("schedule_policy", "retraction_policy", "radix_eviction_policy")


@dataclass(frozen=True, slots=True)
class LoopRequest:
    """One request of a log; `arrival` is a pass, `eos_at` the 1-based output token that ends it."""

    id: int
    arrival: int
    prompt: tuple[Segment, ...]
    max_new: int
    out_stream: int
    eos_at: int | None
    ignore_eos: bool
    priority: int | None


@dataclass(frozen=True, slots=True)
class LoopLog:
    """One golden log.

    Attributes:
        file: The path as given.
        name: The scenario's name.
        config: The scheduler's options under SGLang's names, and `overlap`.
        requests: All of them.
        iterations: How many passes the recording driver ran.
        steps: The records, `i` strictly increasing.
        results: One row a request.
        final: Free, evictable and protected tokens at the end; None where the log has none.
        crash: The pass in which the real scheduler ran out of memory, and its message; None: it did not.
        notes: Remarks about keys that are not known and were ignored.
    """

    file: str
    name: str
    config: dict[str, Any]
    requests: tuple[LoopRequest, ...]
    iterations: int
    steps: list[dict[str, Any]]
    results: list[dict[str, Any]]
    final: list[int] | None
    crash: dict[str, Any] | None
    notes: tuple[str, ...] = ()


def read_loop_log(document: dict[str, Any], file: str) -> LoopLog:
    """Read a parsed log.

    Raises:
        InputError: If it does not have the form of the format; the message names the place.
    """
    check = Checker(file)
    config, notes = _read_config(check, check.mapping(document, "config", ""))
    requests = _read_requests(check, document)
    known = {request.id for request in requests}
    crash = document.get("crash")
    if crash is not None:
        check.whole(check.record(crash, "crash"), "i", "crash", 0)
    return LoopLog(
        file=file,
        name=str(document.get("name", file)),
        config=config,
        requests=requests,
        iterations=check.whole(document, "iterations", "", 0),
        steps=_read_steps(check, document, known),
        results=read_results(check, document, known),
        final=document.get("final"),
        crash=crash,
        notes=tuple(notes),
    )


def _read_config(check: Checker, raw: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    config: dict[str, Any] = {}
    for key, minimum in _MINIMA.items():
        config[key] = check.whole(raw, key, "config", minimum)
    for key in _MAYBE_NULL:
        value = check.value(raw, key, "config")
        config[key] = None if value is None else check.whole(raw, key, "config", 1)
    for key in _FLAGS:
        if not isinstance(check.value(raw, key, "config"), bool):
            check.fail(f"config.{key}", f"expected true or false, got {raw[key]!r}")
        config[key] = raw[key]
    for key in _TEXTS:
        if not isinstance(check.value(raw, key, "config"), str):
            check.fail(f"config.{key}", f"expected a name, got {raw[key]!r}")
        config[key] = raw[key]
    key = "schedule_conservativeness"
    value = check.value(raw, key, "config")
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        check.fail(f"config.{key}", f"expected a number above 0, got {value!r}")
    config[key] = float(value)
    unknown = [key for key in raw if key not in config]
    return config, [
        f"{check.file}: config.{key} is not part of the format and was ignored" for key in unknown
    ]


def _read_requests(check: Checker, document: dict[str, Any]) -> tuple[LoopRequest, ...]:
    requests = []
    for where, raw, request_id in read_request_rows(check, document):
        maybe = {
            key: check.whole(raw, key, where, minimum) if raw.get(key) is not None else None
            for key, minimum in (("eos_at", 1), ("priority", None), ("out_stream", 0))
        }
        stream = maybe["out_stream"]
        request = LoopRequest(
            id=request_id,
            arrival=check.whole(raw, "arrival", where, 0),
            prompt=read_prompt(check, check.array(raw, "prompt", where), f"{where}.prompt"),
            max_new=check.whole(raw, "max_new", where, 0),
            out_stream=_OUTPUT_STREAM + request_id if stream is None else stream,
            eos_at=maybe["eos_at"],
            ignore_eos=bool(raw.get("ignore_eos", False)),
            priority=maybe["priority"],
        )
        requests.append(request)
    return tuple(requests)


def _read_steps(check: Checker, document: dict[str, Any], known: set[int]) -> list[dict[str, Any]]:
    steps = []
    for where, raw in read_records(check, document):
        for request_id in raw.get("add", ()):
            if request_id not in known:
                check.fail(f"{where}.add", f"request {request_id!r} is not in requests")
        steps.append(raw)
    return steps
