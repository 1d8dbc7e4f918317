"""Golden logs: what a real scheduler decided, iteration by iteration, read and checked from JSON.

The format is `simserve-vllm-golden/1`: a configuration, requests whose prompts are segments of token
streams, and one record an iteration. A log that does not have that form is an `InputError` that names
the place; a file of another format is skipped with a note, so that a folder may hold several kinds.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simserve.conformance.checker import Checker, is_whole
from simserve.conformance.golden_config import read_config
from simserve.errors import InputError
from simserve.workload.request import Segment

VLLM_FORMAT = "simserve-vllm-golden/1"
_SUFFIXES = (".json", ".json.gz")
# First stream of generated tokens where a request names none: stream 1000000 + id (format's definition).
DEFAULT_OUTPUT_STREAM = 1_000_000


@dataclass(frozen=True, slots=True)
class GoldenRequest:
    """One request of a log; `arrival` is an iteration, `eos_at` the 1-based output token that stops it."""

    id: int
    arrival: int
    prompt: tuple[Segment, ...]
    max_tokens: int
    priority: int
    arrival_time: float
    out_seed: int
    eos_at: int | None


@dataclass(frozen=True, slots=True)
class GoldenLog:
    """One golden log.

    Attributes:
        file: The path as given.
        name: The scenario's name.
        config: The scheduler's options under vLLM's names, checked (see `read_config`).
        requests: In the order in which they are added.
        aborts: Request ids by iteration.
        iterations: How many iterations the recording driver ran.
        steps: The records, `i` strictly increasing.
        results: One row a request.
        final_free_queue: Block ids from the front of the free queue after the last iteration.
        notes: Remarks about keys that are not known and were ignored.
    """

    file: str
    name: str
    config: dict[str, Any]
    requests: tuple[GoldenRequest, ...]
    aborts: dict[int, list[int]]
    iterations: int
    steps: list[dict[str, Any]]
    results: list[dict[str, Any]]
    final_free_queue: list[int]
    notes: tuple[str, ...] = ()


def find_logs(paths: Iterable[Path]) -> list[Path]:
    """Return the JSON files (`*.json`, `*.json.gz`) among files and folders, sorted by folder, once each.

    Raises:
        InputError: If a path does not exist.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if path.is_dir():
            members = sorted(
                p for p in path.rglob("*") if p.name.endswith((".json", ".json.gz")) and p.is_file()
            )
        elif path.is_file():
            members = [path]
        else:
            raise InputError("no such file or folder; expected golden logs", file=str(path))
        for member in members:
            found.setdefault(member.resolve(), member)
    return list(found.values())


def read_log(path: Path) -> GoldenLog | None:
    """Read one golden log; None if the file is JSON of another format.

    Raises:
        InputError: If the file cannot be read, is no JSON, or claims the format without having its form.
    """
    document = load_json(path)
    if not isinstance(document, dict) or document.get("format") != VLLM_FORMAT:
        return None
    check = Checker(str(path))
    config, notes = read_config(check, check.mapping(document, "config", ""))
    requests = _read_requests(check, document)
    known = {request.id for request in requests}
    queue = check.array(document, "final_free_queue", "")
    if not all(is_whole(block) for block in queue):
        check.fail("final_free_queue", "expected block ids")
    return GoldenLog(
        file=str(path),
        name=str(document.get("name", path.name)),
        config=config,
        requests=requests,
        aborts=_read_aborts(check, document, known),
        iterations=check.whole(document, "iterations", "", 0),
        steps=_read_steps(check, document),
        results=read_results(check, document, known),
        final_free_queue=queue,
        notes=tuple(notes),
    )


def load_json(path: Path) -> Any:
    """Return what a JSON file holds, gzipped or not.

    Raises:
        InputError: If it cannot be read or is no JSON.
    """
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8")
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"malformed JSON: {error.msg}", file=str(path), line=error.lineno, column=error.colno
        ) from error
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"cannot read golden log: {error}", file=str(path)) from error


def _read_requests(check: Checker, document: dict[str, Any]) -> tuple[GoldenRequest, ...]:
    requests = []
    for where, raw, request_id in read_request_rows(check, document):
        arrival = check.whole(raw, "arrival", where, 0)
        due = raw.get("arrival_time", float(arrival))
        if isinstance(due, bool) or not isinstance(due, int | float):
            check.fail(f"{where}.arrival_time", f"expected a number, got {due!r}")
        request = GoldenRequest(
            id=request_id,
            arrival=arrival,
            prompt=read_prompt(check, check.array(raw, "prompt", where), f"{where}.prompt"),
            max_tokens=check.whole(raw, "max_tokens", where, 1),
            priority=check.whole(raw, "priority", where, None) if "priority" in raw else 0,
            arrival_time=float(due),
            out_seed=check.whole(raw, "out_seed", where, 0)
            if "out_seed" in raw
            else DEFAULT_OUTPUT_STREAM + request_id,
            eos_at=check.whole(raw, "eos_at", where, 1) if raw.get("eos_at") is not None else None,
        )
        requests.append(request)
    return tuple(requests)


def read_request_rows(check: Checker, document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], int]]:
    """Yield each row of `requests` with its place in the file and its id, which stands only once."""
    known: set[int] = set()
    for n, raw in enumerate(check.array(document, "requests", "")):
        where = f"requests[{n}]"
        row = check.record(raw, where)
        request_id = check.whole(row, "id", where, 0)
        if request_id in known:
            check.fail(f"{where}.id", f"request {request_id} stands twice")
        known.add(request_id)
        yield where, row, request_id


def read_prompt(check: Checker, raw: list[Any], where: str) -> tuple[Segment, ...]:
    """Read a prompt: a list of [stream, start, length]."""
    segments = []
    for n, item in enumerate(raw):
        if not (isinstance(item, list) and len(item) == 3 and all(is_whole(part) for part in item)):
            check.fail(f"{where}[{n}]", f"expected [seed, start, length] in whole numbers, got {item!r}")
        if item[1] < 0 or item[2] < 1:
            check.fail(f"{where}[{n}]", f"expected start >= 0 and length >= 1, got {item!r}")
        segments.append(Segment(*item))
    if not segments:
        check.fail(where, "expected at least one segment")
    return tuple(segments)


def _read_aborts(check: Checker, document: dict[str, Any], known: set[int]) -> dict[int, list[int]]:
    aborts: dict[int, list[int]] = {}
    for n, item in enumerate(check.array(document, "aborts", "") if "aborts" in document else []):
        if not (isinstance(item, list) and len(item) == 2 and all(is_whole(part) for part in item)):
            check.fail(f"aborts[{n}]", f"expected [iteration, id], got {item!r}")
        if item[1] not in known:
            check.fail(f"aborts[{n}]", f"request {item[1]} is not in requests")
        aborts.setdefault(item[0], []).append(item[1])
    return aborts


def _read_steps(check: Checker, document: dict[str, Any]) -> list[dict[str, Any]]:
    steps = []
    for where, raw in read_records(check, document):
        if "s" in raw:
            check.array(raw, "s", where)
        if "u" in raw:
            check.mapping(raw, "u", where)
        steps.append(raw)
    return steps


def read_records(check: Checker, document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each record of `steps` and where it stands; their `i` must rise."""
    last = -1
    for n, raw in enumerate(check.array(document, "steps", "")):
        where = f"steps[{n}]"
        record = check.record(raw, where)
        last = check.whole(record, "i", where, last + 1)
        yield where, record


def read_results(check: Checker, document: dict[str, Any], known: set[int]) -> list[dict[str, Any]]:
    """Read `results`: a row for a request that is known."""
    rows = []
    for n, raw in enumerate(check.array(document, "results", "")):
        where = f"results[{n}]"
        row = check.record(raw, where)
        if check.whole(row, "id", where, 0) not in known:
            check.fail(f"{where}.id", f"request {row['id']} is not in requests")
        rows.append(row)
    return rows
