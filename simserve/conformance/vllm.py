"""Replays golden logs of vLLM's V1 scheduler through the class that the registry holds for `kind: vllm`.

One iteration is what vLLM's engine core does in one step: add arrivals, apply aborts, schedule() if
anything is unfinished or a finished id has not been reported, then perhaps one update. With a batch
queue (asynchronous scheduling or pipeline stages) a non-empty schedule is not followed by an update
until the queue is full; an empty one is, and it stands in the queue like any other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from simserve import registry
from simserve.conformance.comparison import Outcome, Replay, compare
from simserve.conformance.golden import GoldenLog, GoldenRequest, find_logs, read_log
from simserve.conformance.report import ConformanceReport
from simserve.conformance.shared_tokens import count_shared_tokens
from simserve.errors import InputError
from simserve.scheduler.config import KVGroup, SchedulerConfig, Speculation
from simserve.workload.request import Request

ENGINE_KIND = "vllm"
_NS_PER_S = 1_000_000_000


def replay_paths(
    paths: Iterable[Path],
    *,
    kind: str = ENGINE_KIND,
    tight: bool = False,
    scheduler_options: Mapping[str, Any] | None = None,
    on_log: Callable[[Outcome], None] | None = None,
) -> ConformanceReport:
    """Replay every golden log among files and folders.

    Args:
        paths: Logs (`*.json`, `*.json.gz`), or folders that hold some; files of another format are skipped
            with a note.
        kind: Name of the engine in the registry, or `package.module:Class`.
        tight: State for each request how many tokens it can share at most, instead of "all of them"; the
            cache then keeps the rest as extents. The decisions must not depend on it.
        scheduler_options: Further keywords for the scheduler's constructor (such as `jump`).
        on_log: Called after each log (for a progress bar).

    Raises:
        InputError: If a path does not exist, a log is malformed, or no log is found.
    """
    scheduler_class = partial(registry.lookup("engine", kind), **(scheduler_options or {}))
    report = ConformanceReport()
    for path in find_logs(paths):
        log = read_log(path)
        if log is None:
            report.notes.append(f"{path}: not a golden log of the vLLM scheduler, skipped")
            continue
        report.notes.extend(log.notes)
        outcome = compare(log, replay_log(log, scheduler_class, tight=tight))
        report.outcomes.append(outcome)
        if on_log:
            on_log(outcome)
    if not report.outcomes:
        raise InputError("no golden log of the vLLM scheduler (*.json, *.json.gz) found in the given paths")
    return report


def replay_log(log: GoldenLog, scheduler_class: Callable[..., Any], *, tight: bool = False) -> Replay:
    """Drive a scheduler through the requests of a log and record what it decides.

    An error that the scheduler raises is a finding: it ends the replay and is kept in `Replay.error`.
    """
    replay = Replay()
    iteration = -1
    try:
        drive = _Drive(log, replay, scheduler_class(build_config(log), observe=True), tight)
        for iteration in range(log.iterations):
            drive.iterate(iteration)
        replay.final_free_queue = list(drive.scheduler.pool.free_block_ids())
    except Exception as error:
        moment = f"iteration {iteration}" if iteration >= 0 else "before the first iteration"
        replay.error = f"{type(error).__name__}: {error} ({moment})"
    return replay


def build_config(log: GoldenLog) -> SchedulerConfig:
    """Return the log's configuration as the scheduler takes it."""
    options = {key: value for key, value in log.config.items() if key not in ("spec", "kv_groups")}
    spec = log.config["spec"]
    speculation = Speculation(spec[0], spec[1], _accept_drafts(spec[1])) if spec else None
    groups = tuple(KVGroup(window=window) for window in log.config["kv_groups"])
    return SchedulerConfig(**options, speculative=speculation, kv_groups=groups)


def build_request(golden: GoldenRequest, shared_tokens: int) -> Request:
    """Return a log's request as the workload would give it."""
    output = golden.max_tokens if golden.eos_at is None else min(golden.eos_at, golden.max_tokens)
    return Request(
        id=golden.id,
        arrival_ns=golden.arrival * _NS_PER_S,
        prompt=golden.prompt,
        prompt_tokens=sum(segment.length for segment in golden.prompt),
        output_tokens=output,
        max_tokens=golden.max_tokens,
        output_stream=golden.out_seed,
        shared_tokens=shared_tokens,
        priority=golden.priority,
    )


def _accept_drafts(num_speculative_tokens: int) -> Callable[[int, int, int], int]:
    """The acceptance rule of the recording driver (part of the log format)."""

    def accept(request_id: int, verified_step: int, drafts: int) -> int:
        return min(drafts, (3 * request_id + 5 * verified_step) % (num_speculative_tokens + 2))

    return accept


class _Drive:
    """State of one replay: the scheduler, its queue of batches in flight, and what was seen so far."""

    def __init__(self, log: GoldenLog, replay: Replay, scheduler: Any, tight: bool) -> None:
        self.log = log
        self.replay = replay
        self.scheduler = scheduler
        self.iteration = -1
        stages = log.config["pipeline_parallel_size"]
        self.depth = stages if stages > 1 else 2 if log.config["async_scheduling"] else 1
        self.in_flight: deque[tuple[int, Any]] = deque()
        self.unreported = False
        shared = count_shared_tokens(log.requests) if tight else {}
        self.arrivals: dict[int, list[tuple[GoldenRequest, Request]]] = {}
        for golden in log.requests:
            request = build_request(golden, 0)
            request.shared_tokens = shared[golden.id] if tight else request.prompt_tokens + request.max_tokens
            self.arrivals.setdefault(golden.arrival, []).append((golden, request))
        self.golden = {golden.id: golden for golden in log.requests}

    def iterate(self, iteration: int) -> None:
        """Run one iteration and record it unless it is idle."""
        self.iteration = iteration
        self._admit()
        record: dict[str, Any] = {"i": iteration}
        scheduled = 0
        active = self.scheduler.has_unfinished
        if active or self.unreported:
            self.unreported = False
            batch = self.scheduler.schedule()
            record |= self._describe_schedule(batch)
            scheduled = len(record["s"])
            self.in_flight.append((iteration, batch))
            if not active and not scheduled:
                self.replay.flush.add(iteration)
        elif not self.in_flight:
            return
        if not (scheduled and len(self.in_flight) < self.depth):
            record["u"] = self._update()
        self.replay.steps[iteration] = record

    def _admit(self) -> None:
        for golden, request in self.arrivals.pop(self.iteration, []):
            self.scheduler.add(request, golden.arrival_time)
            self.replay.results[golden.id] = {
                "arrival": golden.arrival,
                "first_sched": None,
                "first_token": None,
                "finish": None,
                "n_out": 0,
                "preemptions": 0,
                "cached_tokens": None,
                "reason": None,
            }
        for request_id in self.log.aborts.get(self.iteration, []):
            row = self.replay.results.get(request_id)
            # An abort of a request that has ended already (or has not come yet) does nothing.
            if row is not None and row["reason"] is None:
                self.scheduler.abort(request_id)
                row |= {"finish": self.iteration, "reason": "abort"}
                self.unreported = True

    def _describe_schedule(self, batch: Any) -> dict[str, Any]:
        """The schedule in the form of the log; also notes first schedules, hits and preemptions."""
        scheduler, results = self.scheduler, self.replay.results
        seen = scheduler.observation
        record: dict[str, Any] = {
            "s": [list(entry) for entry in seen.scheduled] if batch is not None else [],
            "new": list(seen.new),
            "res": list(seen.resumed),
            "pre": list(seen.preempted),
            "spec": {str(key): drafts for key, drafts in seen.drafts.items()},
            "blk": {str(key): _as_lists(blocks) for key, blocks in seen.new_blocks.items()},
            "evict": list(seen.evicted),
        }
        for request_id in record["pre"]:
            results[request_id]["preemptions"] += 1
        for request_id, _, computed in record["s"]:
            row = results[request_id]
            if row["first_sched"] is None:
                row["first_sched"] = self.iteration
                row["cached_tokens"] = computed
        record |= self._queues()
        record["nc"] = scheduler.num_cached
        record["cpb"] = scheduler.common_prefix_blocks()
        record["run"] = [sequence.request.id for sequence in scheduler.running]
        record["wait"] = [sequence.request.id for sequence in scheduler.waiting]
        return record

    def _update(self) -> dict[str, Any]:
        """Complete the oldest batch; an empty one changes nothing."""
        of, batch = self.in_flight.popleft()
        record: dict[str, Any] = {"of": of, "tok": 0, "out": {}, "fin": []}
        if batch is not None:
            ended = self.scheduler.complete(batch)
            finished = [sequence.request.id for sequence in ended]
            received = {key: count for key, count in batch.observed.tokens_out.items() if count}
            for request_id, count in received.items():
                row = self.replay.results[request_id]
                row["n_out"] += count
                if row["first_token"] is None:
                    row["first_token"] = self.iteration
            for sequence in ended:
                row = self.replay.results[sequence.request.id]
                row |= {"finish": self.iteration, "reason": self._reason(sequence, row["n_out"])}
            self.unreported |= bool(finished)
            record["tok"] = len(received)
            record["out"] = {str(key): count for key, count in received.items() if count != 1}
            record["fin"] = finished
        return record | self._queues()

    def _queues(self) -> dict[str, int]:
        scheduler = self.scheduler
        return {
            "free": scheduler.pool.num_free,
            "nr": len(scheduler.running),
            "nw": sum(1 for _ in scheduler.waiting),
        }

    def _reason(self, sequence: Any, outputs: int) -> str:
        golden = self.golden[sequence.request.id]
        # A request cannot say that its very last allowed token is the stop token; vLLM looks for that first.
        if golden.eos_at == golden.max_tokens == outputs:
            return "stop"
        return str(sequence.reason)


def _as_lists(blocks: Any) -> list[Any]:
    """A block table as plain lists; a list per group where the scheduler gives several."""
    return [list(group) if isinstance(group, list | tuple) else group for group in blocks]
