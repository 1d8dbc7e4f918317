"""Random options and loads for the vLLM scheduler, in a pool that holds one request of any length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from simserve import registry
from simserve.conformance.golden import GoldenLog, GoldenRequest, find_logs, read_log
from simserve.conformance.shared_tokens import count_shared_tokens
from simserve.conformance.vllm import build_config, build_request
from simserve.scheduler.batch import Batch
from simserve.scheduler.config import KVGroup, SchedulerConfig, Speculation
from simserve.testing.harness import Drive, drive
from simserve.workload.request import Request, Segment

MAX_MODEL_LEN = 96
# No shrinking: a load takes too long to run for it, and the failing one is printed anyway. The same loads
# every time: a test run must not depend on luck.
LOADS = settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.generate],
)


@dataclass(frozen=True)
class Load:
    """A configuration, requests by arriving iteration, and aborts."""

    config: SchedulerConfig
    requests: tuple[Request, ...]
    arrivals: tuple[int, ...]
    aborts: tuple[tuple[int, int], ...]

    def arrivals_by_iteration(self, *, shared: bool = True) -> dict[int, list[Request]]:
        """Requests by arrival; with `shared` False the bound on what they share is the trivial one."""
        arrivals: dict[int, list[Request]] = {}
        for request, iteration in zip(self.requests, self.arrivals, strict=True):
            arrivals.setdefault(iteration, []).append(request if shared else _share_all(request))
        return arrivals

    def aborts_by_iteration(self) -> dict[int, list[int]]:
        """Request ids by the iteration that aborts them."""
        aborts: dict[int, list[int]] = {}
        for iteration, request_id in self.aborts:
            aborts.setdefault(iteration, []).append(request_id)
        return aborts

    def drive(
        self,
        *,
        observe: bool = False,
        shared: bool = True,
        jump: bool = True,
        stretch: Callable[[int], int] | None = None,
    ) -> tuple[Any, Drive, list[Any]]:
        """Run the load; returns the scheduler, the drive and what an observing scheduler noted."""
        scheduler = registry.lookup("engine", "vllm")(self.config, observe=observe, jump=jump)
        notes: list[Any] = []

        def note(iteration: int, batch: Batch | None) -> None:
            if observe:
                notes.append((iteration, _facts(scheduler), scheduler.pool.free_block_ids()))

        result = drive(
            scheduler,
            self.config,
            self.arrivals_by_iteration(shared=shared),
            aborts=self.aborts_by_iteration(),
            max_iterations=20_000,
            observer=note,
            stretch=stretch,
        )
        return scheduler, result, notes


def _facts(scheduler: Any) -> dict[str, Any]:
    seen = scheduler.observation
    names = ("scheduled", "new", "resumed", "preempted", "drafts", "new_blocks", "evicted")
    return {name: getattr(seen, name) for name in names} | {
        "running": [sequence.request.id for sequence in scheduler.running],
        "waiting": [sequence.request.id for sequence in scheduler.waiting],
    }


def _share_all(request: Request) -> Request:
    """The same request with the trivial bound on what it may share."""
    return replace(request, shared_tokens=request.prompt_tokens + request.max_tokens)


@st.composite
def configs(draw: st.DrawFn) -> SchedulerConfig:
    """Any options; the pool holds one request of the greatest length, as a real engine demands at start."""
    block_size = draw(st.sampled_from([1, 4, 8, 16]))
    groups = draw(
        st.sampled_from(
            [(KVGroup(),)] * 3 + [(KVGroup(12),), (KVGroup(), KVGroup(8)), (KVGroup(33), KVGroup())]
        )
    )
    spec = None
    if draw(st.integers(0, 3)) == 0:
        tokens = draw(st.integers(1, 4))
        method = draw(st.sampled_from(["ngram", "eagle", "draft_model"]))
        spec = Speculation(
            method, tokens, lambda request, step, drafts: min(drafts, (request + 3 * step) % 4)
        )
    needed = len(groups) * (-(-MAX_MODEL_LEN // block_size) + 1)
    chunked = draw(st.integers(0, 4)) > 0
    return SchedulerConfig(
        num_gpu_blocks=needed + 1 + draw(st.sampled_from([0, 1, 3, needed // 3, 2 * needed])),
        block_size=block_size,
        max_num_seqs=draw(st.sampled_from([1, 3, 4, 6, 8])),
        max_num_batched_tokens=MAX_MODEL_LEN if not chunked else draw(st.sampled_from([8, 17, 40, 128])),
        max_model_len=MAX_MODEL_LEN,
        enable_prefix_caching=draw(st.booleans()),
        enable_chunked_prefill=chunked,
        policy=draw(st.sampled_from(["fcfs", "priority"])),
        long_prefill_token_threshold=draw(st.sampled_from([0, 0, 11])) if chunked else 0,
        scheduler_reserve_full_isl=draw(st.booleans()),
        async_scheduling=draw(st.booleans()),
        pipeline_parallel_size=draw(st.sampled_from([1, 1, 1, 2, 3])),
        speculative=spec,
        kv_groups=groups,
    )


@st.composite
def loads(draw: st.DrawFn) -> Load:
    """3 to 16 requests with private and shared prompts; some repeat another's prompt and output."""
    golden: list[GoldenRequest] = []
    for number in range(draw(st.integers(3, 16))):
        shared = draw(st.integers(0, 40))
        prompt = [Segment(1 + draw(st.integers(0, 2)), 0, shared)] if shared else []
        tail = draw(st.integers(0 if shared else 1, 40))
        prompt += [Segment(100 + draw(st.integers(0, 20)), 0, tail)] if tail else []
        if golden and draw(st.integers(0, 4)) == 0:  # the next turn of an earlier conversation
            former = golden[-1]
            prompt = [*former.prompt, Segment(former.out_seed, 0, former.max_tokens), Segment(50, 0, 3)]
        prompt = _cut(prompt, MAX_MODEL_LEN - 1)
        outputs = draw(st.integers(1, 40))
        eos = draw(st.one_of(st.none(), st.integers(1, outputs)))
        stream = draw(st.sampled_from([1000 + number, 1000 + number, 999]))
        arrival = draw(st.integers(0, 9))
        priority = draw(st.integers(0, 2))
        golden.append(
            GoldenRequest(number, arrival, tuple(prompt), outputs, priority, float(arrival), stream, eos)
        )
    bounds = count_shared_tokens(golden)
    aborts = draw(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 15)), max_size=3))
    return Load(
        config=draw(configs()),
        requests=tuple(_build(request, bounds[request.id]) for request in golden),
        arrivals=tuple(request.arrival for request in golden),
        aborts=tuple(aborts),
    )


def _cut(prompt: list[Segment], tokens: int) -> list[Segment]:
    kept = []
    for stream, start, length in prompt:
        if tokens > 0:
            kept.append(Segment(stream, start, min(length, tokens)))
        tokens -= length
    return kept


def _build(golden: GoldenRequest, shared_tokens: int) -> Request:
    return Request(
        id=golden.id,
        arrival_ns=golden.arrival,
        prompt=golden.prompt,
        prompt_tokens=sum(segment.length for segment in golden.prompt),
        output_tokens=golden.eos_at or golden.max_tokens,
        max_tokens=golden.max_tokens,
        output_stream=golden.out_seed,
        shared_tokens=shared_tokens,
        priority=golden.priority,
    )


def draw_loads(number: int, key: int) -> list[Load]:
    """Random loads for several properties, since drawing one takes as long as driving it; `key`: which."""
    drawn: list[Load] = []

    @seed(key)
    @settings(LOADS, max_examples=number)
    @given(loads())
    def collect(load: Load) -> None:
        drawn.append(load)

    collect()
    assert len(drawn) == number
    return drawn


@cache
def golden_loads(data_dir: Path) -> list[tuple[GoldenLog, Load]]:
    """The real logs as loads, with the tight bound on what each request shares."""
    found = []
    for path in find_logs([data_dir / "golden" / "vllm"]):
        log = read_log(path)
        assert log is not None
        shared = count_shared_tokens(log.requests)
        load = Load(
            config=build_config(log),
            requests=tuple(build_request(request, shared[request.id]) for request in log.requests),
            arrivals=tuple(request.arrival for request in log.requests),
            aborts=tuple((at, request_id) for at, ids in log.aborts.items() for request_id in ids),
        )
        found.append((log, load))
    return found


def ending_loads(data_dir: Path) -> list[tuple[GoldenLog, Load]]:
    """The real logs without those in which the real scheduler hangs."""
    return [(log, load) for log, load in golden_loads(data_dir) if all(row["reason"] for row in log.results)]
