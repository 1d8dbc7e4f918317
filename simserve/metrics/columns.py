"""The record as numpy columns: one array a field of the request log, and one of all instances' step ends."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simserve.metrics.record import COMPLETED, FAILED, RequestLog, StepLog

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_NUMBERS = (
    "request_id",
    "arrival_ns",
    "prompt_tokens",
    "output_tokens",
    "cached_tokens",
    "instance",
    "first_step",
    "first_token_step",
    "finish_step",
    "end_ns",
    "preemptions",
)


@dataclass(frozen=True, slots=True, eq=False)
class FlatSteps:
    """Steps and stretches of all instances, one instance after the other.

    Attributes:
        logs: The logs that the arrays were made from, in their order.
        offset: `[highest instance + 1]`, where the steps of an instance begin.
        end_ns: `[steps of all instances]`, the end of each step.
        stretch_first: `[stretches of all instances]`, where each stretch begins in `end_ns`.
        stretch_start_ns: `[stretches of all instances]`, the start of each stretch.
    """

    logs: tuple[StepLog, ...]
    offset: Ints
    end_ns: Ints
    stretch_first: Ints
    stretch_start_ns: Ints

    @classmethod
    def of(cls, logs: Sequence[StepLog]) -> FlatSteps:
        """Lay the logs end to end, by instance."""
        ordered = tuple(sorted(logs, key=lambda log: log.instance))
        offset = np.zeros((ordered[-1].instance + 1) if ordered else 1, dtype=np.int64)
        begin = 0
        for log in ordered:
            offset[log.instance] = begin
            begin += len(log.end_ns)
        return cls(
            ordered,
            offset,
            end_ns=joined([as_ints(log.end_ns) for log in ordered]),
            stretch_first=joined([as_ints(log.first_step) + offset[log.instance] for log in ordered]),
            stretch_start_ns=joined([as_ints(log.start_ns) for log in ordered]),
        )

    def index(self, instance: Ints, step: Ints) -> Ints:
        """Return the positions in `end_ns` of step `step[i]` of instance `instance[i]`."""
        return self.offset[instance] + step

    def start_ns(self, index: Ints) -> Ints:
        """Return when the steps at these positions of `end_ns` started to execute.

        A stretch's first step has its start on record; a later one starts at the end of the one before it.
        """
        stretch = np.searchsorted(self.stretch_first, index, side="right") - 1
        inside = self.stretch_first[stretch] != index
        begun = self.stretch_start_ns[stretch]
        begun[inside] = self.end_ns[index[inside] - 1]
        return begun


@dataclass(frozen=True, slots=True, eq=False)
class RequestColumns:
    """The request log as arrays of one length (a row a request), with the steps that give its times."""

    request_id: Ints
    arrival_ns: Ints
    prompt_tokens: Ints
    output_tokens: Ints
    cached_tokens: Ints
    instance: Ints
    first_step: Ints
    first_token_step: Ints
    finish_step: Ints
    end_ns: Ints
    preemptions: Ints
    completed: Mask
    failed: Mask
    steps: FlatSteps

    @classmethod
    def of(cls, log: RequestLog, steps: Sequence[StepLog]) -> RequestColumns:
        """Build the columns of a run's request log and step logs."""
        numbers = {name: np.array(getattr(log, name), dtype=np.int64) for name in _NUMBERS}
        completed = np.array([status == COMPLETED for status in log.status], dtype=np.bool_)
        failed = np.array([status == FAILED for status in log.status], dtype=np.bool_)
        return cls(**numbers, completed=completed, failed=failed, steps=FlatSteps.of(steps))

    def __len__(self) -> int:
        return len(self.request_id)

    def first_token_ns(self) -> Ints:
        """Return `[n]` the time of each request's first token, -1 where there is none."""
        return self._end_of(self.first_token_step)

    def first_scheduled_ns(self) -> Ints:
        """Return `[n]` the start of the first step that each request was in, -1 where there is none."""
        begun = np.full(len(self), -1, dtype=np.int64)
        rows = np.flatnonzero(self.first_step >= 0)
        begun[rows] = self.steps.start_ns(self.steps.index(self.instance[rows], self.first_step[rows]))
        return begun

    def rows_by_instance(self) -> list[tuple[StepLog, Ints]]:
        """Return the rows of the requests of each instance that has any."""
        order = np.argsort(self.instance, kind="stable")
        ordered = self.instance[order]
        groups = []
        for log in self.steps.logs:
            begin, end = np.searchsorted(ordered, (log.instance, log.instance + 1)).tolist()
            if end > begin:
                groups.append((log, order[begin:end]))
        return groups

    def _end_of(self, step: Ints) -> Ints:
        times = np.full(len(self), -1, dtype=np.int64)
        rows = np.flatnonzero(step >= 0)
        times[rows] = self.steps.end_ns[self.steps.index(self.instance[rows], step[rows])]
        return times


def stretch_times(log: StepLog) -> tuple[Ints, Ints]:
    """Return `[stretches]` the start and the end of each stretch of an instance, in ns."""
    last = as_ints(log.first_step) + as_ints(log.steps) - 1
    return as_ints(log.start_ns), as_ints(log.end_ns)[last]


def as_ints(values: array[int]) -> Ints:
    """Return a column of the record as numpy integers, sharing its memory (so hold on to it only briefly)."""
    return np.frombuffer(values, dtype=np.int64) if values else np.empty(0, dtype=np.int64)


def joined(parts: Sequence[Ints]) -> Ints:
    """Return the parts one after the other, in memory of their own."""
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
