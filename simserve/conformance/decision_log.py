"""Decision logs: what a scheduler of any kind was asked, and what it decided; a golden log for every policy.

A log holds everything that a replay needs: the kind and its options, the requests, and every call of the
engine with its answer. No clock, no cost model and no scenario is asked again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simserve.conformance.checker import Checker
from simserve.conformance.golden import load_json, read_prompt
from simserve.errors import InputError
from simserve.workload.request import Request

FORMAT = "simserve decisions 1"
# What a log keeps of a request beside its prompt.
_REQUEST_FIELDS = (
    "prompt_tokens", "output_tokens", "max_tokens", "output_stream", "shared_tokens", "priority", "tenant",
    "session", "slo_class", "ignore_eos",
)  # fmt: skip
_CALLS = ("add", "abort", "schedule", "complete", "idle")


@dataclass(slots=True)
class DecisionLog:
    """The calls of one engine.

    Attributes:
        name: What was recorded, for people.
        kind: The engine kind, or `package.module:Class`.
        options: The kind's own options.
        config: The scheduler's options, see `decision_config`.
        requests: All that were added, by id.
        calls: In order, each an object with `call` (add, abort, schedule, complete, idle), what was asked,
            and the answer.
    """

    name: str
    kind: str
    options: dict[str, Any]
    config: dict[str, Any]
    requests: dict[int, Request] = field(default_factory=dict)
    calls: list[dict[str, Any]] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """How many steps were scheduled."""
        return sum(call["call"] == "schedule" and call["ran"] is not None for call in self.calls)

    def write(self, path: Path) -> None:
        """Write the log, a line for each request and call; its folder is made if need be."""
        head = {"format": FORMAT, "name": self.name, "kind": self.kind}
        parts = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
        parts += [f'"options": {json.dumps(self.options)}', f'"config": {json.dumps(self.config)}']
        parts.append(f'"requests": {_lines(_encode_request(each) for each in self.requests.values())}')
        parts.append(f'"calls": {_lines(self.calls)}')
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write the decision log: {error.strerror}", file=str(path)) from error


def read_decision_log(path: Path) -> DecisionLog:
    """Read a log.

    Raises:
        InputError: If it cannot be read, or is no decision log.
    """
    document = load_json(path)
    check = Checker(str(path))
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InputError(f"no decision log: expected an object with format {FORMAT!r}", file=str(path))
    requests = {}
    for number, raw in enumerate(check.array(document, "requests", "")):
        request = _decode_request(check, check.record(raw, f"requests[{number}]"), f"requests[{number}]")
        requests[request.id] = request
    calls = [check.record(raw, f"calls[{n}]") for n, raw in enumerate(check.array(document, "calls", ""))]
    for number, call in enumerate(calls):
        where = f"calls[{number}]"
        if check.value(call, "call", where) not in _CALLS:
            check.fail(f"{where}.call", f"expected one of {', '.join(_CALLS)}, got {call['call']!r}")
        if call["call"] in ("add", "abort") and check.whole(call, "id", where, 0) not in requests:
            check.fail(f"{where}.id", f"request {call['id']} is not in requests")
        if call["call"] in ("add", "schedule"):
            check.whole(call, "at_ns", where, 0)
        for key in {"add": ("order",), "schedule": ("ran",)}.get(call["call"], ()):
            check.value(call, key, where)
    return DecisionLog(
        name=str(check.value(document, "name", "")),
        kind=str(check.value(document, "kind", "")),
        options={
            key: tuple(value) if isinstance(value, list) else value
            for key, value in check.mapping(document, "options", "").items()
        },
        config=check.mapping(document, "config", ""),
        requests=requests,
        calls=calls,
    )


def _lines(values: Any) -> str:
    return "[\n" + ",\n".join(json.dumps(value) for value in values) + "\n]"


def _encode_request(request: Request) -> dict[str, Any]:
    encoded: dict[str, Any] = {"id": request.id, "prompt": [list(segment) for segment in request.prompt]}
    for name in _REQUEST_FIELDS:
        value = getattr(request, name)
        if value != Request.__dataclass_fields__[name].default:
            encoded[name] = value
    return encoded


def _decode_request(check: Checker, raw: dict[str, Any], where: str) -> Request:
    prompt = check.array(raw, "prompt", where)
    lengths: dict[str, Any] = {
        name: check.whole(raw, name, where, least)
        for name, least in (("id", 0), ("prompt_tokens", 1), ("output_tokens", 1), ("max_tokens", 1))
    }
    lengths["output_stream"] = check.whole(raw, "output_stream", where, None)
    rest = {name: raw[name] for name in _REQUEST_FIELDS if name in raw and name not in lengths}
    segments = read_prompt(check, prompt, f"{where}.prompt") if prompt else ()
    return Request(arrival_ns=0, prompt=segments, **lengths, **rest)
