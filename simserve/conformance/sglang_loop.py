"""Replays golden logs of SGLang's event loop through the class that the registry holds for `kind: sglang`.

One pass is one turn of SGLang's loop: arrivals enter the queue, a batch is decided and launched, and a result
is processed: of this batch, or with overlap of the batch that the pass before launched.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from simserve.conformance.sglang_golden import EOS_STREAM, LoopLog, LoopRequest
from simserve.errors import SimulationError
from simserve.scheduler.sglang.config import SglangConfig
from simserve.workload.request import Request

# What SGLang gives a request without a priority, where priorities count.
_EXTREME = sys.maxsize


def replay_loop(log: LoopLog, scheduler_class: Callable[..., Any]) -> LoopReplay:
    """Drive a scheduler through the requests of a log and record what it decides.

    An error that the scheduler raises ends the replay; the log's `crash` stands for those of the real one.
    """
    replay = LoopReplay()
    index = -1
    # Any error of the class under test is a finding about that scenario, not the end of the report.
    try:
        drive = _Drive(log, replay, scheduler_class(build_config(log), observe=True))
        # The pass in which the real one died is not counted.
        passes = log.iterations + (log.crash is not None)
        try:
            for index in range(passes):
                drive.turn(index)
        except SimulationError as error:
            replay.crash = {"i": index, "message": str(error)}
        replay.final = drive.sizes()
    except Exception as error:
        replay.error = f"{type(error).__name__}: {error} (pass {index})"
    return replay


class LoopReplay:
    """What the scheduler under test did, in the form of the log.

    Attributes:
        steps: Records by pass.
        results: Result rows by request id.
        final: Free, evictable and protected tokens after the last pass.
        crash: The out-of-memory error that ended it, None if there was none.
        error: Any other error; everything after it is missing.
    """

    def __init__(self) -> None:
        self.steps: dict[int, dict[str, Any]] = {}
        self.results: dict[int, dict[str, Any]] = {}
        self.final: list[int] = []
        self.crash: dict[str, Any] | None = None
        self.error = ""


def build_config(log: LoopLog) -> SglangConfig:
    """Return the log's configuration as the scheduler takes it."""
    options = {key: value for key, value in log.config.items() if key != "overlap"}
    return SglangConfig(**options, disable_overlap_schedule=not log.config["overlap"], eos_stream=EOS_STREAM)


def build_request(golden: LoopRequest, config: dict[str, Any]) -> Request:
    """Return a log's request as the workload would give it."""
    priority = golden.priority
    if priority is None and config["enable_priority_scheduling"]:
        priority = _EXTREME if config["schedule_low_priority_values_first"] else -_EXTREME - 1
    ends = golden.eos_at is not None and not golden.ignore_eos
    output = min(golden.eos_at or 0, golden.max_new) if ends else golden.max_new
    return Request(
        id=golden.id,
        arrival_ns=golden.arrival,
        prompt=golden.prompt,
        prompt_tokens=sum(segment.length for segment in golden.prompt),
        output_tokens=max(1, output),
        max_tokens=golden.max_new,
        output_stream=golden.out_stream,
        shared_tokens=1 << 40,
        priority=priority or 0,
        ignore_eos=golden.ignore_eos,
    )


class _Drive:
    """State of one replay: the scheduler, its batches in flight, and what was seen so far."""

    def __init__(self, log: LoopLog, replay: LoopReplay, scheduler: Any) -> None:
        self.log = log
        self.replay = replay
        self.scheduler = scheduler
        self.overlap = log.config["overlap"]
        self.in_flight: deque[Any] = deque()
        self.golden = {golden.id: golden for golden in log.requests}
        self.last: Any = None
        self.arrivals: dict[int, list[int]] = {}
        for step in log.steps:
            self.arrivals[step["i"]] = list(step.get("add", ()))
        listed = {each for ids in self.arrivals.values() for each in ids}
        for golden in log.requests:
            if golden.id not in listed:
                self.arrivals.setdefault(golden.arrival, []).append(golden.id)

    def turn(self, index: int) -> None:
        """Run one pass and record it unless nothing happened."""
        scheduler = self.scheduler
        added = self.arrivals.get(index, [])
        for request_id in added:
            self._add(self.golden[request_id], index)
        batch = scheduler.schedule()
        record: dict[str, Any] = {"i": index}
        if added:
            record["add"] = added
        record |= self._describe(batch, index)
        record["sched"] = self.sizes()
        done = self.last if self.overlap else batch
        self.last = batch
        finished = self._complete(done, index) if done is not None else []
        if finished:
            record["fin"] = finished
        record["end"] = self.sizes()
        record["ratio"] = scheduler.ratio.current
        if scheduler.pool.evicted:
            record["evict"] = scheduler.pool.evicted
        if batch is not None or added or finished or record["wait"] or record.get("abort"):
            self.replay.steps[index] = record

    def _add(self, golden: LoopRequest, index: int) -> None:
        sequence = self.scheduler.add(build_request(golden, self.log.config), len(self.replay.results))
        if golden.priority is None and not self.log.config["enable_priority_scheduling"]:
            sequence.priority = None
        self.replay.results[golden.id] = {
            "arrival": index,
            "max_new": sequence.max_new,
            "first_sched": None,
            "first_token": None,
            "finish": None,
            "n_out": 0,
            "cached": 0,
            "retractions": 0,
            "reason": None,
        }

    def _describe(self, batch: Any, index: int) -> dict[str, Any]:
        """The decision in the form of the log; also notes first schedules, hits and retractions."""
        seen = self.scheduler.observation
        results = self.replay.results
        record: dict[str, Any] = {"mode": seen.mode, "run": seen.running, "wait": seen.waiting}
        record["full"] = int(seen.full)
        if seen.scheduled:
            record["s"] = [list(entry) for entry in seen.scheduled]
        if seen.chunked is not None:
            record["chunk"] = seen.chunked
        if seen.retracted:
            record["retr"] = seen.retracted
        for request_id in seen.preempted:
            results[request_id]["retractions"] += 1
        for entry in batch.entries if batch is not None else []:
            row = results[entry.sequence.id]
            if row["first_sched"] is None:
                row |= {"first_sched": index, "cached": entry.computed_before}
        if seen.failed:
            record["abort"] = seen.failed
            for row, _ in self.scheduler.failed:
                results[row.id] |= {"finish": index, "n_out": row.outputs, "reason": "abort"}
        return record

    def _complete(self, batch: Any, index: int) -> list[int]:
        """Take the results of a batch; returns the ids of the requests that ended."""
        ended = self.scheduler.complete()
        for entry in batch.entries:
            row = self.replay.results[entry.sequence.id]
            if row["first_token"] is None and entry.sequence.outputs:
                row["first_token"] = index
        for sequence in ended:
            row = self.replay.results[sequence.id]
            golden = self.golden[sequence.id]
            stopped = golden.eos_at == sequence.outputs and not golden.ignore_eos
            row |= {"finish": index, "n_out": sequence.outputs, "reason": "stop" if stopped else "length"}
        # The format lists them in the order in which they arrived.
        return [sequence.id for sequence in sorted(ended, key=lambda sequence: sequence.arrival_order)]

    def sizes(self) -> list[int]:
        """Return free, evictable and protected tokens."""
        pool = self.scheduler.pool
        return [pool.free, pool.tree.evictable_tokens, pool.tree.protected_tokens]
