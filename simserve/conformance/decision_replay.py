"""Logs what a scheduler decides, and drives one through a log to find the first decision that differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any

from simserve.conformance.decision_config import decode_config
from simserve.conformance.decision_log import DecisionLog
from simserve.registry import lookup
from simserve.scheduler.batch import Batch
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.sequence import Sequence
from simserve.workload.request import Request


def build_scheduler(kind: str, config: SchedulerConfig, options: Mapping[str, Any]) -> Any:
    """Return a scheduler of a kind that goes step by step, and observes if it can."""
    policy = lookup("engine", kind)
    parameters = signature(policy).parameters
    given = {"jump": False} if "jump" in parameters else {}
    if "observe" in parameters:
        given["observe"] = True
    return policy(config, **given, **options)


class LoggedScheduler:
    """A scheduler that keeps every call and its answer; everything else is the scheduler's own.

    Args:
        scheduler: The scheduler.
        log: Where requests and calls are appended.
    """

    def __init__(self, scheduler: Any, log: DecisionLog) -> None:
        self._scheduler = scheduler
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheduler, name)

    def add(self, request: Request, arrival_order: float, arrived_ns: int = 0) -> Sequence:
        """Queue a request."""
        self._log.requests[request.id] = request
        self._note("add", id=request.id, order=arrival_order, at_ns=arrived_ns)
        sequence: Sequence = self._scheduler.add(request, arrival_order, arrived_ns)
        return sequence

    def abort(self, request_id: int) -> Sequence | None:
        """Drop a request."""
        sequence: Sequence | None = self._scheduler.abort(request_id)
        self._note("abort", id=request_id, found=sequence is not None)
        return sequence

    def schedule(self, now_ns: int = 0) -> Batch | None:
        """Decide the next step."""
        scheduler = self._scheduler
        batch: Batch | None = scheduler.schedule(now_ns)
        answer = {
            "preempted": [sequence.id for sequence in scheduler.preempted],
            "failed": [sequence.id for sequence, _ in getattr(scheduler, "failed", ())],
        }
        self._note(
            "schedule",
            at_ns=now_ns,
            ran=None if batch is None else _list_tokens(scheduler, batch),
            **{key: ids for key, ids in answer.items() if ids},
            running=len(scheduler.running),
            waiting=len(scheduler.waiting),
            free=scheduler.pool.num_free,
        )
        return batch

    def complete(self) -> list[Sequence]:
        """Take the outputs of the oldest batch in flight."""
        ended: list[Sequence] = self._scheduler.complete()
        self._note("complete", ended=[sequence.id for sequence in ended])
        return ended

    def idle(self) -> None:
        """Note that nothing is left to do."""
        self._scheduler.idle()
        self._note("idle")

    def _note(self, call: str, **facts: Any) -> None:
        self._log.calls.append({"call": call, **facts})


def _list_tokens(scheduler: Any, batch: Batch) -> list[list[int]]:
    """Return [request id, tokens] of a batch, in the scheduler's order."""
    if batch.observed is not None:
        return [[request_id, tokens] for request_id, tokens, _ in batch.observed.scheduled]
    observation = getattr(scheduler, "observation", None)
    if observation is not None:
        ran = [[request_id, tokens] for request_id, tokens, _ in observation.scheduled]
        return ran or [[request_id, 1] for request_id in observation.running]
    ran = [[sequence.id, 1] for sequence in batch.decoders]
    return ran + [[entry.sequence.id, entry.tokens] for entry in batch.entries]


@dataclass(frozen=True, slots=True)
class ReplayOutcome:
    """How a replay compares.

    Attributes:
        file: The log's path, as given.
        name, kind: Of the log; the kind is that of the scheduler replayed.
        steps: Steps of the log.
        agreed: Steps before the first difference.
        difference: The first difference in words, empty if there is none.
    """

    file: str
    name: str
    kind: str
    steps: int
    agreed: int
    difference: str = ""


def replay_decisions(log: DecisionLog, file: str = "", kind: str | None = None) -> ReplayOutcome:
    """Drive a scheduler through a log's calls, up to the first answer that differs.

    Args:
        log: The log.
        file: Its path, for the outcome.
        kind: In place of the log's kind, with the log's options.

    Raises:
        InputError: If there is no such kind, or it refuses the options.
    """
    kind = kind or log.kind
    got = DecisionLog(log.name, kind, log.options, log.config)
    scheduler = LoggedScheduler(build_scheduler(kind, decode_config(log.config), log.options), got)
    agreed = 0
    for number, call in enumerate(log.calls):
        place = f"call {number} ({call['call']})"
        # Any error of the class under test is a finding, not the end of the report.
        try:
            _repeat(scheduler, call, log)
        except Exception as error:
            difference = f"{place}: {type(error).__name__}: {error}"
            return ReplayOutcome(file, log.name, kind, log.steps, agreed, difference)
        found = got.calls[-1]
        for key in [*call, *(key for key in found if key not in call)]:
            if call.get(key) != found.get(key):
                when = f" at {call['at_ns'] / 1e9:.6f} s" if call["call"] == "schedule" else ""
                difference = f"{place}{when}: {key}: expected {call.get(key)}, got {found.get(key)}"
                return ReplayOutcome(file, log.name, kind, log.steps, agreed, difference)
        agreed += call["call"] == "schedule" and call["ran"] is not None
    return ReplayOutcome(file, log.name, kind, log.steps, agreed)


def _repeat(scheduler: LoggedScheduler, call: Mapping[str, Any], log: DecisionLog) -> None:
    what = call["call"]
    if what == "add":
        scheduler.add(log.requests[call["id"]], call["order"], call["at_ns"])
    elif what == "abort":
        scheduler.abort(call["id"])
    elif what == "schedule":
        scheduler.schedule(call["at_ns"])
    elif what == "complete":
        scheduler.complete()
    else:
        scheduler.idle()
