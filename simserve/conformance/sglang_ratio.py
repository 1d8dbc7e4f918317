"""Cases of SGLang's new-token ratio and of its order of retraction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from simserve.conformance.case_outcome import Pair
from simserve.conformance.checker import Checker
from simserve.conformance.sglang_cases import SchedulerClass, make_row
from simserve.scheduler.sglang.config import SglangConfig
from simserve.scheduler.sglang.retraction import order_to_keep
from simserve.scheduler.sglang.row import Row


def _compare_tracker(
    check: Checker, raw: dict[str, Any], where: str, scheduler_class: SchedulerClass
) -> Iterator[Pair]:
    """The ratio after so many decode steps."""
    raw = check.record(raw, where)
    conservativeness = float(check.value(raw, "conservativeness", where))
    ratio = scheduler_class(_config(schedule_conservativeness=conservativeness)).ratio
    yield "init", raw.get("init"), ratio.init
    yield "min", raw.get("min"), ratio.minimum
    yield "decay", raw.get("decay"), ratio.step
    passed = 0
    for steps, expected in sorted(check.mapping(raw, "at", where).items(), key=lambda item: int(item[0])):
        ratio.decay(int(steps) - passed)
        passed = int(steps)
        yield f"after {steps} steps", expected, ratio.current


def _compare_after_retract(
    check: Checker, raw: dict[str, Any], where: str, scheduler_class: SchedulerClass
) -> Iterator[Pair]:
    """The ratio that a retraction leaves, from the requests that still run."""
    rows = _read_rows(check, raw, where)
    ratio = scheduler_class(_config()).ratio
    ratio.settle([(row.outputs, row.max_new) for row in rows])
    yield "ratio", raw.get("ratio"), ratio.current


def _compare_retract_order(
    check: Checker, raw: dict[str, Any], where: str, scheduler_class: SchedulerClass
) -> Iterator[Pair]:
    """Who is kept first under each policy."""
    rows = _read_rows(check, raw, where)
    for label in ("length", "priority", "priority_lowfirst"):
        if label in raw:
            policy, _, flag = label.partition("_")
            config = _config(retraction_policy=policy, schedule_low_priority_values_first=bool(flag))
            kept = order_to_keep(rows, scheduler_class(config).config, lambda row: row.outputs)
            yield label, raw[label], [row.id for row in kept]


# By the key of the log that holds such cases.
RATIO_CASES = {
    "tracker": _compare_tracker,
    "after_retract": _compare_after_retract,
    "retract_order": _compare_retract_order,
}


def _config(**options: Any) -> SglangConfig:
    return SglangConfig(pool_tokens=1, context_len=1, **options)


def _read_rows(check: Checker, raw: Any, where: str) -> list[Row]:
    rows = []
    for n, item in enumerate(check.array(check.record(raw, where), "reqs", where)):
        place = f"{where}.reqs[{n}]"
        item = check.record(item, place)
        row = make_row(
            n,
            prompt_tokens=check.whole(item, "inp", place, 1),
            outputs=check.whole(item, "out", place, 0),
            max_new=check.whole(item, "max_new", place, 0),
        )
        row.priority = item.get("prio")
        rows.append(row)
    return rows
