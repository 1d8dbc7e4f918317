"""A run as a trace that ui.perfetto.dev opens, in the Trace Event format.

An instance is a process: a track of steps (of a pipeline several, since its steps overlap), a track of
arrivals, counters for KV memory, running and waiting requests, and an asynchronous track a request with its
spans, the first from its arrival on. An arrow leads from a request's arrival to its first step. Consecutive
decode steps of one stretch are one slice that says how many they are.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from simserve.report.load_figures import load_series
from simserve.report.run_folder import Ints, RunFolder

# Tracks of a process: arrivals, then those of steps.
_ARRIVALS, _STEPS = 0, 1
_COUNTERS = {"running": 1, "waiting": 1, "kv_usage": 100}
_TITLES = {"running": "running", "waiting": "waiting", "kv_usage": "KV blocks in use, %"}
_US = 1e6
# An arrival is a moment; an arrow begins in a slice, which is at least so long, in us.
_SHORTEST_US = 1.0
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
    tracks = _step_tracks(run)
    yield from _names(run, tracks)
    yield from _steps(run, tracks)
    yield from _counters(run)
    yield from _requests(run)
    yield from _arrivals(run)
    yield from _first_steps(run, tracks)


def _step_tracks(run: RunFolder) -> Ints:
    """Return the track of each row of `steps`: the first whose last one has ended when it starts."""
    starts, ends = run.steps["start_s"].tolist(), run.steps["end_s"].tolist()
    tracks = np.full(len(starts), _STEPS, np.int64)
    for rows in run.step_rows.values():
        free_s: list[float] = []
        for row in rows.tolist():
            track = next((n for n, free in enumerate(free_s) if free <= starts[row]), len(free_s))
            free_s[track : track + 1] = [ends[row]]
            tracks[row] += track
    return tracks


def _names(run: RunFolder, tracks: Ints) -> Iterator[Event]:
    for instance in run.instances:
        pool = run.pool_of(instance)
        title = f"instance {instance}: {pool['model']} on {pool['hardware']}"
        yield {"ph": "M", "pid": instance, "name": "process_name", "args": {"name": title}}
        names = {_ARRIVALS: "arrivals"} | {
            int(track): "steps" for track in np.unique(tracks[run.step_rows[instance]])
        }
        for track, name in names.items():
            yield {"ph": "M", "pid": instance, "tid": track, "name": "thread_name", "args": {"name": name}}


def _steps(run: RunFolder, tracks: Ints) -> Iterator[Event]:
    steps = run.steps
    for row in range(len(steps["instance"])):
        count, prefill, decode = (
            int(steps[name][row]) for name in ("steps", "prefill_tokens", "decode_tokens")
        )
        yield {
            "ph": "X",
            "pid": int(steps["instance"][row]),
            "tid": int(tracks[row]),
            **_lasting(_us(steps["start_s"][row]), _us(steps["end_s"][row])),
            "name": _step_name(count, prefill, decode),
            "cat": "step",
            "args": {"steps": count, "prefill_tokens": prefill, "decode_tokens": decode},
        }


def _step_name(count: int, prefill: int, decode: int) -> str:
    if prefill:
        return f"prefill {prefill}" + (f" + decode {decode}" if decode else "")
    return f"decode {decode}" + (f" x {count} steps" if count > 1 else "")


def _counters(run: RunFolder) -> Iterator[Event]:
    for instance in run.instances:
        for quantity, scale in _COUNTERS.items():
            times_s, values = load_series(run, instance, quantity)
            for time_s, value in zip(times_s.tolist(), (values * scale).tolist(), strict=True):
                args = {"value": round(value, 3)}
                yield {"ph": "C", "pid": instance, "ts": _us(time_s), "name": _TITLES[quantity], "args": args}


def _requests(run: RunFolder) -> Iterator[Event]:
    """A request's wait and its spans, one after the other, on a track of its own."""
    requests, spans, owners = run.requests, run.spans, run.span_rows
    by_request = np.argsort(owners, kind="stable")
    bounds = np.searchsorted(owners[by_request], np.arange(len(requests["request_id"]) + 1))
    for row in np.flatnonzero(requests["instance"] >= 0).tolist():
        request, instance = int(requests["request_id"][row]), int(requests["instance"][row])
        common = {"cat": "request", "id": request, "pid": instance, "tid": _ARRIVALS}
        begun = _us(requests["arrival_s"][row])
        until = _us(_wait_end(run, row))
        phases = [("queued", begun, until, 0)] if until > begun else []
        for span in by_request[bounds[row] : bounds[row + 1]].tolist():
            if spans["kind"][span] != "queued":
                # The steps of a pipeline overlap: the next span's first may begin before the last ends.
                start = max(until, _us(run.step_starts[instance][spans["first_step"][span]]))
                until = max(start, _us(run.step_ends[instance][spans["last_step"][span]]))
                phases.append((spans["kind"][span], start, until, int(spans["tokens"][span])))
        for kind, start, end, tokens in phases:
            args = {"request": request, "tokens": tokens}
            yield {"ph": "b", "ts": start, **common, "name": kind, "args": args}
            yield {"ph": "e", "ts": end, **common, "name": kind}


def _wait_end(run: RunFolder, row: int) -> float:
    """Return when a request was first scheduled, or ended without, else the end of its instance's steps."""
    for moment in (run.requests["first_scheduled_s"][row], run.requests["finish_s"][row]):
        if not np.isnan(moment):
            return float(moment)
    ends = run.step_ends.get(int(run.requests["instance"][row]), np.empty(0))
    return float(ends[-1]) if len(ends) else 0.0


def _arrivals(run: RunFolder) -> Iterator[Event]:
    """A slice for those that arrive at one moment, and the beginnings of their arrows in it.

    It lasts until they are scheduled or the next arrive: slices of one track may not overlap.
    """
    requests = run.requests
    for instance in run.instances:
        rows = np.flatnonzero(requests["instance"] == instance)
        rows = rows[np.lexsort((requests["request_id"][rows], requests["arrival_s"][rows]))]
        moments, first = np.unique(requests["arrival_s"][rows], return_index=True)
        groups = np.split(rows, first[1:])
        starts = [_us(moment) for moment in moments]
        for number, (start, group) in enumerate(zip(starts, groups, strict=True)):
            ids = requests["request_id"][group].tolist()
            until = max(start + _SHORTEST_US, *(_us(_wait_end(run, row)) for row in group.tolist()))
            until = min([until, *starts[number + 1 : number + 2]])
            common = {"pid": instance, "tid": _ARRIVALS, "cat": "request"}
            name = f"request {ids[0]}" if len(ids) == 1 else f"{len(ids)} requests"
            tokens = requests["prompt_tokens"][group].tolist()
            args = {"requests": ids, "prompt_tokens": tokens}
            yield {"ph": "X", **common, **_lasting(start, until), "name": name, "args": args}
            for row, request in zip(group.tolist(), ids, strict=True):
                if not np.isnan(requests["first_scheduled_s"][row]):
                    yield {"ph": "s", **common, "ts": start, "id": request, "name": "request"}


def _first_steps(run: RunFolder, tracks: Ints) -> Iterator[Event]:
    """The ends of the arrows, in the steps in which requests were first scheduled."""
    requests = run.requests
    for instance, rows in run.step_rows.items():
        starts_s = run.steps["start_s"][rows]
        mine = np.flatnonzero(~np.isnan(requests["first_scheduled_s"]) & (requests["instance"] == instance))
        places = np.searchsorted(starts_s, requests["first_scheduled_s"][mine], side="right") - 1
        for row, track in zip(mine.tolist(), tracks[rows[places]].tolist(), strict=True):
            time, request = _us(requests["first_scheduled_s"][row]), int(requests["request_id"][row])
            yield {
                "ph": "f", "bp": "e", "pid": instance, "tid": track, "ts": time, "cat": "request",
                "id": request, "name": "request",
            }  # fmt: skip


def _lasting(start: float, end: float) -> Event:
    """Return when a slice begins and how long it lasts: rounded so that neighbours do not overlap."""
    return {"ts": start, "dur": round(end - start, 3)}


def _us(seconds: float) -> float:
    return round(float(seconds) * _US, 3)
