"""A run as a trace that ui.perfetto.dev opens, in the Trace Event format.

An instance is a process: one track of steps, counters for KV memory, running and waiting requests, and an
asynchronous track a request with its spans. An arrow leads from a request's queueing to the step of its
first token. Consecutive decode steps of one stretch are one slice that says how many they are.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from simserve.report.run_folder import RunFolder

# Track of the steps in each process.
_STEPS = 0
_US = 1e6
Event = dict[str, Any]


def write_perfetto(run: RunFolder, path: Path) -> None:
    """Write the trace; compressed if the file's name ends in .gz, which Perfetto opens too."""
    content = b'{"displayTimeUnit":"ms","traceEvents":[\n' + _join(trace_events(run)) + b"\n]}\n"
    # No time of writing in the archive: the same run gives the same bytes.
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def _join(events: Iterator[Event]) -> bytes:
    return ",\n".join(json.dumps(event, separators=(",", ":")) for event in events).encode()


def trace_events(run: RunFolder) -> Iterator[Event]:
    """Yield the events; times are microseconds since the start of the run."""
    yield from _names(run)
    yield from _steps(run)
    yield from _counters(run)
    yield from _requests(run)
    yield from _flows(run)


def _names(run: RunFolder) -> Iterator[Event]:
    for instance in run.instances:
        pool = run.pool_of(instance)
        title = f"instance {instance}: {pool['model']} on {pool['hardware']}"
        yield {"ph": "M", "pid": instance, "name": "process_name", "args": {"name": title}}
        yield {"ph": "M", "pid": instance, "tid": _STEPS, "name": "thread_name", "args": {"name": "steps"}}


def _steps(run: RunFolder) -> Iterator[Event]:
    steps = run.steps
    for row in range(len(steps["instance"])):
        count, prefill, decode = (
            int(steps[name][row]) for name in ("steps", "prefill_tokens", "decode_tokens")
        )
        start, end = float(steps["start_s"][row]), float(steps["end_s"][row])
        yield {
            "ph": "X",
            "pid": int(steps["instance"][row]),
            "tid": _STEPS,
            "ts": _us(start),
            "dur": _us(end - start),
            "name": _step_name(count, prefill, decode),
            "cat": "step",
            "args": {"steps": count, "prefill_tokens": prefill, "decode_tokens": decode},
        }


def _step_name(count: int, prefill: int, decode: int) -> str:
    if prefill:
        return f"prefill {prefill}" + (f" + decode {decode}" if decode else "")
    return f"decode {decode}" + (f" x {count} steps" if count > 1 else "")


def _counters(run: RunFolder) -> Iterator[Event]:
    steps = run.steps
    names = {"running": "running", "waiting": "waiting", "KV blocks used": "kv_used_blocks"}
    for row in range(len(steps["instance"])):
        instance, time = int(steps["instance"][row]), _us(float(steps["start_s"][row]))
        for title, column in names.items():
            value = int(steps[column][row])
            yield {"ph": "C", "pid": instance, "ts": time, "name": title, "args": {"value": value}}


def _requests(run: RunFolder) -> Iterator[Event]:
    """A request's spans, one after the other, on a track of its own."""
    requests, spans = run.requests, run.spans
    instance_of = dict(zip(requests["request_id"].tolist(), requests["instance"].tolist(), strict=True))
    for row in range(len(spans["request_id"])):
        request = int(spans["request_id"][row])
        instance = int(instance_of[request])
        first, last = int(spans["first_step"][row]), int(spans["last_step"][row])
        common = {
            "cat": "request", "id": request, "pid": instance, "tid": _STEPS, "name": spans["kind"][row],
        }  # fmt: skip
        begin = float(run.step_starts[instance][first])
        args = {"request": request, "tokens": int(spans["tokens"][row])}
        yield {"ph": "b", "ts": _us(begin), **common, "args": args}
        yield {"ph": "e", "ts": _us(float(run.step_ends[instance][last])), **common}


def _flows(run: RunFolder) -> Iterator[Event]:
    """An arrow from when a request reached its instance to the step that it was first scheduled in."""
    requests = run.requests
    for row in np.flatnonzero(~np.isnan(requests["first_scheduled_s"])).tolist():
        instance, request = int(requests["instance"][row]), int(requests["request_id"][row])
        common = {"cat": "request", "id": request, "pid": instance, "tid": _STEPS, "name": "request"}
        arrived = float(requests["arrival_s"][row])
        yield {"ph": "s", "ts": _us(arrived), **common}
        yield {"ph": "f", "bp": "e", "ts": _us(float(requests["first_scheduled_s"][row])), **common}


def _us(seconds: float) -> float:
    return round(seconds * _US, 3)
