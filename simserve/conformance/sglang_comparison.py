"""Compares what a scheduler decided with a golden log of SGLang's loop, field by field, at three levels.

- L1, decisions: mode, who is scheduled with how many tokens, the chunked request, retractions, ends, the
  running batch, the queue, the results, and whether the engine dies for want of memory.
- L2, memory: L1, free, evictable and protected tokens after the decision and after the results, evictions.
- L3, state: L2, whether the running batch is full, and the new-token ratio.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from simserve.conformance.comparison import Difference, Outcome, summarize
from simserve.conformance.sglang_golden import LoopLog
from simserve.conformance.sglang_loop import LoopReplay

# Fields by level, and what a field stands for that the log leaves out.
_STEP: dict[str, tuple[int, Any]] = {
    "add": (1, []),
    "mode": (1, None),
    "s": (1, []),
    "chunk": (1, None),
    "retr": (1, []),
    "abort": (1, []),
    "fin": (1, []),
    "run": (1, []),
    "wait": (1, []),
    "sched": (2, None),
    "end": (2, None),
    "evict": (2, 0),
    "full": (3, 0),
    "ratio": (3, None),
}
_RESULT = (
    "arrival", "max_new", "first_sched", "first_token", "finish", "n_out", "cached", "retractions", "reason",
)  # fmt: skip


def compare_loop(log: LoopLog, replay: LoopReplay) -> Outcome:
    """Compare a replay with its log; differences after the first are only counted."""
    return summarize(log.file, log.name, _decisions(log, replay))


def _decisions(log: LoopLog, replay: LoopReplay) -> Iterator[list[Difference]]:
    """Yield the differences of every compared record, in the order of time."""
    if replay.error:
        yield [Difference(1, "replay", "scheduler", "no error", replay.error)]
    expected = {record["i"]: record for record in log.steps}
    for index in sorted(expected.keys() | replay.steps.keys()):
        want, got = expected.get(index), replay.steps.get(index)
        place = f"pass {index}"
        if want is None or got is None:
            yield [Difference(1, place, "record", _headline(want), _headline(got))]
        else:
            yield _differences(place, want, got)
    died = log.crash["i"] if log.crash else None
    dies = replay.crash["i"] if replay.crash else None
    if log.crash or replay.crash:
        found = None if replay.crash is None else f"{dies} ({replay.crash['message']})"
        yield [] if died == dies else [Difference(1, "crash", "pass", died, found)]
    for row in log.results:
        mine = replay.results.get(row["id"], {})
        yield [
            Difference(1, f"results, request {row['id']}", key, row.get(key), mine.get(key))
            for key in _RESULT
            if row.get(key) != mine.get(key)
        ]
    if log.final is not None:
        same = log.final == replay.final
        yield [] if same else [Difference(2, "final", "tokens", log.final, replay.final)]


def _differences(place: str, want: Mapping[str, Any], got: Mapping[str, Any]) -> list[Difference]:
    return [
        Difference(level, place, key, want.get(key, empty), got.get(key, empty))
        for key, (level, empty) in _STEP.items()
        if want.get(key, empty) != got.get(key, empty)
    ]


def _headline(record: Mapping[str, Any] | None) -> str:
    return "no record" if record is None else f"{record['mode']} {record.get('s', record.get('run'))}"
