"""Compares what a scheduler decided with a golden log, field by field, at three levels.

- L1, decisions: who is scheduled with how many tokens, admissions, resumes, preemptions, drafts, queue
  orders, which batch is updated, tokens received, finishes, and the results but for cached tokens.
- L2, memory: L1, free blocks, distinct cached hashes, and cached tokens at first admission.
- L3, blocks: L2, every block id taken, evictions in order, common prefix blocks, the final free queue.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from simserve.conformance.golden import GoldenLog

LEVELS = ("L1", "L2", "L3")

# Fields by level. A field that the log leaves out when it is empty is compared as that empty value ...
_SCHEDULE: dict[str, tuple[int, Any]] = {
    "s": (1, []),
    "new": (1, []),
    "res": (1, []),
    "pre": (1, []),
    "spec": (1, {}),
    "nr": (1, 0),
    "nw": (1, 0),
    "free": (2, 0),
    "blk": (3, {}),
    "evict": (3, []),
}
# ... and one that only some logs record (queue orders, figures of the prefix cache) only where it stands.
_WHERE_RECORDED = {"run": 1, "wait": 1, "nc": 2, "cpb": 3}
_UPDATE: dict[str, tuple[int, Any]] = {
    "of": (1, None),
    "tok": (1, 0),
    "out": (1, {}),
    "fin": (1, []),
    "nr": (1, 0),
    "nw": (1, 0),
    "free": (2, 0),
}
_RESULT = {
    "arrival": 1,
    "first_sched": 1,
    "first_token": 1,
    "finish": 1,
    "n_out": 1,
    "preemptions": 1,
    "reason": 1,
    "cached_tokens": 2,
}


@dataclass(slots=True)
class Replay:
    """What the scheduler under test did, in the form of the log.

    Attributes:
        steps: Records as in the log, by iteration; `flush` holds the iterations that only reported
            finished ids (a log may leave those out).
        results: Result rows by request id.
        final_free_queue: Block ids from the front.
        error: What the scheduler raised, and when; everything after that is missing. Empty if it did not.
    """

    steps: dict[int, dict[str, Any]] = field(default_factory=dict)
    flush: set[int] = field(default_factory=set)
    results: dict[int, dict[str, Any]] = field(default_factory=dict)
    final_free_queue: list[int] = field(default_factory=list)
    error: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """One field in which log and scheduler differ; `level` is 1, 2 or 3."""

    level: int
    place: str
    field: str
    expected: Any
    got: Any

    def __str__(self) -> str:
        return f"{self.place}: {self.field}: expected {_shorten(self.expected)}, got {_shorten(self.got)}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one scenario compares.

    Attributes:
        file: The log's path, as given.
        name: The scenario's name.
        passed: Highest level at which everything agrees, 0 to 3.
        decisions: Compared records: schedules, updates, result rows and the final free queue.
        agreed: How many of them agree at L1, L2 and L3 (each level includes the ones before).
        first: The first difference of the lowest level that fails.
        earliest: The first difference of any level, where that is another one.
    """

    file: str
    name: str
    passed: int
    decisions: int
    agreed: tuple[int, int, int]
    first: Difference | None = None
    earliest: Difference | None = None

    @property
    def detail(self) -> str:
        """The first difference in words; empty if there is none."""
        if self.first is None:
            return ""
        earlier = f" (earliest difference, L{self.earliest.level}: {self.earliest})" if self.earliest else ""
        return f"{self.name}: {self.first}{earlier}"


def compare(log: GoldenLog, replay: Replay) -> Outcome:
    """Compare a replay with its log; differences after the first are only counted."""
    return summarize(log.file, log.name, _decisions(log, replay))


def summarize(file: str, name: str, records: Iterable[list[Difference]]) -> Outcome:
    """Count what agrees at which level; `records` are the differences of every compared record in turn."""
    decisions = 0
    agreed = [0, 0, 0]
    lowest: dict[int, Difference] = {}
    earliest: Difference | None = None
    for differences in records:
        decisions += 1
        worst = min((difference.level for difference in differences), default=4)
        for level in range(worst - 1):
            agreed[level] += 1
        for difference in differences:
            earliest = earliest or difference
            lowest.setdefault(difference.level, difference)
    first = lowest[min(lowest)] if lowest else None
    return Outcome(
        file=file,
        name=name,
        passed=min(lowest, default=4) - 1,
        decisions=decisions,
        agreed=(agreed[0], agreed[1], agreed[2]),
        first=first,
        earliest=None if earliest is first else earliest,
    )


def _decisions(log: GoldenLog, replay: Replay) -> Iterator[list[Difference]]:
    """Yield the differences of every compared record, in the order of time."""
    if replay.error:
        yield [Difference(1, "replay", "scheduler", "no error", replay.error)]
    expected = {record["i"]: record for record in log.steps}
    for iteration in sorted(expected.keys() | replay.steps.keys()):
        place = f"iteration {iteration}"
        want, got = expected.get(iteration), replay.steps.get(iteration)
        if want is None or got is None:
            if iteration not in replay.flush:
                yield [Difference(1, place, "record", _headline(want), _headline(got))]
            continue
        if "s" in want or "s" in got:
            yield _compare_schedule(place, want, got)
        if "u" in want or "u" in got:
            yield _compare_update(f"{place}, update", want.get("u"), got.get("u"))
    for row in log.results:
        place = f"results, request {row['id']}"
        mine = replay.results.get(row["id"], {})
        yield [
            Difference(level, place, key, row.get(key), mine.get(key))
            for key, level in _RESULT.items()
            if row.get(key) != mine.get(key)
        ]
    if log.final_free_queue != replay.final_free_queue:
        yield [_difference_in_lists(log.final_free_queue, replay.final_free_queue)]
    else:
        yield []


def _compare_schedule(place: str, want: Mapping[str, Any], got: Mapping[str, Any]) -> list[Difference]:
    if ("s" in want) != ("s" in got):
        return [Difference(1, place, "record", _headline(want), _headline(got))]
    found = [
        Difference(level, place, key, want.get(key, empty), got.get(key, empty))
        for key, (level, empty) in _SCHEDULE.items()
        if want.get(key, empty) != got.get(key, empty)
    ]
    found += [
        Difference(level, place, key, want[key], got.get(key))
        for key, level in _WHERE_RECORDED.items()
        if key in want and want[key] != got.get(key)
    ]
    return found


def _compare_update(
    place: str, want: Mapping[str, Any] | None, got: Mapping[str, Any] | None
) -> list[Difference]:
    if want is None or got is None:
        return [
            Difference(1, place, "record", "an update" if want else "none", "an update" if got else "none")
        ]
    return [
        Difference(level, place, key, want.get(key, empty), got.get(key, empty))
        for key, (level, empty) in _UPDATE.items()
        if want.get(key, empty) != got.get(key, empty)
    ]


def _difference_in_lists(want: list[int], got: list[int]) -> Difference:
    """The first position in which two free queues differ."""
    position = next((n for n, (a, b) in enumerate(zip(want, got, strict=False)) if a != b), None)
    if position is None:
        return Difference(3, "final_free_queue", "length", len(want), len(got))
    return Difference(3, "final_free_queue", f"position {position}", want[position], got[position])


def _headline(record: Mapping[str, Any] | None) -> str:
    if record is None:
        return "an idle iteration"
    return f"schedule {_shorten(record['s'])}" if "s" in record else "an update without a schedule"


def _shorten(value: Any, limit: int = 160) -> str:
    text = str(value)
    return text if len(text) <= limit else f"{text[: limit - 4]} ..."
