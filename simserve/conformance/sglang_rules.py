"""Checks single rules of SGLang's scheduler against its answers: queue orders, admission, new-token ratio.

The rules are those of the scheduler that the registry holds for `kind: sglang`: its queue order, its pool and
tree, its ratio. A log is a list of cases, or for the ratio an object of three lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from simserve.conformance.case_outcome import CaseOutcome, Pair, compare_case
from simserve.conformance.checker import Checker
from simserve.conformance.sglang_cases import (
    SchedulerClass,
    build_scheduler,
    make_row,
    read_row,
)
from simserve.conformance.sglang_ratio import RATIO_CASES
from simserve.scheduler.sglang.budget import PrefillBudget, Verdict

# Compared after each admission: the log's key, and what it is here.
_BUDGETS: dict[str, Callable[[PrefillBudget], Any]] = {
    "rem_total": lambda budget: budget.rem_total,
    "cur_rem": lambda budget: budget.rem_current,
    "rem_input": lambda budget: budget.rem_input,
    "rem_chunk": lambda budget: budget.rem_chunk,
}


def is_rule_log(document: Any) -> bool:
    """Whether a parsed JSON document is a log of single rules."""
    if isinstance(document, dict):
        return all(isinstance(document.get(key), list) for key in RATIO_CASES)
    return (
        isinstance(document, list)
        and bool(document)
        and all(isinstance(item, dict) and "queue" in item for item in document)
        and all("results" in item or "steps" in item for item in document)
    )


def check_rules(document: Any, file: str, scheduler_class: SchedulerClass) -> list[CaseOutcome]:
    """Compare every case of a log with what the scheduler's rules give.

    Args:
        document: The parsed JSON (see `is_rule_log`).
        file: Its path, for messages.
        scheduler_class: Makes a scheduler of its options.

    Raises:
        InputError: If the log does not have its form.
    """
    check = Checker(file)
    if isinstance(document, dict):
        return [
            compare_case(check, f"{key}[{n}]", compare(check, raw, f"{key}[{n}]", scheduler_class))
            for key, compare in RATIO_CASES.items()
            for n, raw in enumerate(document[key])
        ]
    outcomes = []
    for n, raw in enumerate(document):
        compare = _compare_orders if "results" in raw else _compare_admission
        outcomes.append(compare_case(check, f"[{n}]", compare(check, raw, f"[{n}]", scheduler_class)))
    return outcomes


def _compare_orders(
    check: Checker, raw: dict[str, Any], where: str, scheduler_class: SchedulerClass
) -> Iterator[Pair]:
    """The order of one queue under each policy; labels: `policy`, `policy+prio`, `policy+prio_lowfirst`."""
    queue = check.array(raw, "queue", where)
    keys = raw.get("running_routing_keys") or []
    running = [make_row(n, session=key or "") for n, key in enumerate(keys)]
    for label, expected in check.mapping(raw, "results", where).items():
        policy, _, flags = label.partition("+")
        scheduler = build_scheduler(
            check,
            raw,
            where,
            scheduler_class,
            schedule_policy=policy,
            enable_priority_scheduling=flags.startswith("prio"),
            schedule_low_priority_values_first=flags.endswith("lowfirst"),
        )
        rows = [
            read_row(check, item, f"{where}.queue[{n}]", n, scheduler.pool) for n, item in enumerate(queue)
        ]
        order = list(rows)
        scheduler.order.sort(order, running, raw.get("processed_tokens", 0))
        expected = check.record(expected, f"{where}.results.{label}")
        yield f"{label} order", expected.get("order"), [row.id for row in order]
        if expected.get("matched") is not None:
            yield f"{label} matched", expected["matched"], [row.matched for row in rows]
        if expected.get("deprioritized") is not None:
            found = sorted(row.id for row in scheduler.order.deprioritized)
            yield f"{label} deprioritized", sorted(expected["deprioritized"]), found


def _compare_admission(
    check: Checker, raw: dict[str, Any], where: str, scheduler_class: SchedulerClass
) -> Iterator[Pair]:
    """One admission pass: the budgets at its start, and after each candidate."""
    scheduler = build_scheduler(
        check,
        raw,
        where,
        scheduler_class,
        chunked_prefill_size=raw.get("chunked_prefill_size"),
        max_prefill_tokens=check.whole(raw, "max_prefill_tokens", where, 1),
        prefill_max_requests=raw.get("prefill_max_requests"),
    )
    pool = scheduler.pool
    pool.free = check.whole(raw, "pool_free", where, 0)
    running = [
        read_row(check, item, f"{where}.running[{n}]", 1_000_000 + n, pool)
        for n, item in enumerate(check.array(raw, "running", where))
    ]
    ratio = float(check.value(raw, "new_token_ratio", where))
    mixed = check.whole(raw, "num_mixed_decode_tokens", where, 0)
    budget = PrefillBudget(scheduler.config, pool, ratio, [(row, row.outputs) for row in running], mixed)
    yield "start", raw.get("start"), {key: read(budget) for key, read in _BUDGETS.items()}
    queue = check.array(raw, "queue", where)
    for n, step in enumerate(check.array(raw, "steps", where)):
        index = check.whole(check.record(step, f"{where}.steps[{n}]"), "i", f"{where}.steps[{n}]", 0)
        if index >= len(queue):
            check.fail(f"{where}.steps[{n}].i", f"candidate {index} is not in the queue")
        row = read_row(check, queue[index], f"{where}.queue[{index}]", index, pool)
        prefix = pool.find(row, row.known - 1)
        before = len(budget.admitted)
        verdict = budget.admit(row, has_chunk=False)
        added = len(budget.admitted) > before
        got = {
            "i": index,
            "prefix": prefix,
            "result": verdict.name,
            "added": added,
            "extend": budget.admitted[-1][1] if added else None,
            "chunked": budget.chunked is row,
            **{key: read(budget) for key, read in _BUDGETS.items()},
        }
        yield f"candidate {index}", step, got
        if verdict is not Verdict.CONTINUE:
            break
