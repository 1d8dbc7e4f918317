"""SGLang's scheduler under random loads: nothing is lost, limits hold, and stretches change nothing."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from simserve.errors import IntegrityError, SimulationError
from simserve.scheduler.batch import Batch
from simserve.scheduler.sglang import SglangScheduler
from simserve.scheduler.sglang.config import SCHEDULE_POLICIES, SglangConfig
from simserve.scheduler.sglang.row import Row
from simserve.testing.harness import Drive, drive
from simserve.workload.request import Request, Segment
from tests.properties.seeds import seed_groups

LOADS = 160
GROUP = 20


def build_config(draw: random.Random) -> SglangConfig:
    page_size = draw.choice([1, 1, 4, 16])
    disabled = draw.random() < 0.2
    policy = draw.choice(("fcfs", *SCHEDULE_POLICIES))
    chunk = draw.choice([None, 16, 48, 64])
    return SglangConfig(
        pool_tokens=draw.choice([160, 240, 400, 2000]) // page_size * page_size,
        context_len=200,
        page_size=page_size,
        max_running_requests=draw.choice([2, 5, 12, 32]),
        max_prefill_tokens=draw.choice([64, 16384]),
        chunked_prefill_size=chunk,
        enable_mixed_chunk=draw.random() < 0.2,
        schedule_policy="lpm" if disabled and policy.startswith("shortest") else policy,
        disable_radix_cache=disabled,
        radix_eviction_policy=draw.choice(["lru", "lfu", "fifo", "filo", "mru", "priority", "slru"]),
        disable_overlap_schedule=draw.random() < 0.5,
        schedule_conservativeness=draw.choice([1.0, 0.3, 0.02]),
        prefill_max_requests=draw.choice([None, None, 3]),
        enable_priority_scheduling=draw.random() < 0.2,
        schedule_low_priority_values_first=draw.random() < 0.5,
        retraction_policy=draw.choice(["length", "length", "priority"]),
        prefill_decode_interval=draw.choice([0, 0, 0, 3]),
        pipeline_parallel_size=draw.choice([1, 1, 1, 1, 2, 3]),
    )


def build_arrivals(draw: random.Random) -> dict[int, list[Request]]:
    """Bursts of requests; many share a prefix, some end by EOS, some ignore it."""
    arrivals: dict[int, list[Request]] = {}
    longest = draw.choice([5, 40, 90])
    for request_id in range(draw.choice([15, 40])):
        shared = draw.choice([0, 0, 20, 33])
        own = draw.randint(1, draw.choice([6, 60]))
        prompt = (Segment(draw.randint(1, 3), 0, shared), Segment(100 + request_id, 0, own))
        most = draw.randint(1, longest)
        output = draw.choice([most, draw.randint(1, most)])
        request = Request(
            request_id, 0, tuple(segment for segment in prompt if segment.length), shared + own,
            output, most, 1000 + request_id,
            shared_tokens=200, priority=draw.choice([0, 0, 20, 40]), session=draw.choice(["", "a", "b"]),
            ignore_eos=output == most and draw.random() < 0.2,
        )  # fmt: skip
        arrivals.setdefault(draw.choice([0, 0, 3, 30, draw.randint(0, 90)]), []).append(request)
    return arrivals


def run(seed: int, *, stretch: bool) -> tuple[Drive | str, SglangScheduler]:
    """Drive a scheduler through a load; the message, where the real one would die for want of memory."""
    draw = random.Random(seed)
    config: Any = build_config(draw)
    arrivals = build_arrivals(draw)
    aborts = {draw.randint(1, 60): [draw.randint(0, 14)] for _ in range(draw.choice([0, 0, 4]))}
    scheduler = SglangScheduler(config)
    pick = random.Random(seed)
    options: dict[str, Any] = {"stretch": lambda longest: pick.randint(0, longest)} if stretch else {}
    try:
        return drive(scheduler, config, arrivals, aborts=aborts, **options), scheduler
    except SimulationError as error:
        return str(error), scheduler


@pytest.mark.parametrize("first", seed_groups(LOADS, GROUP, fast=20))
def test_nothing_is_lost_and_stretches_change_nothing(first: int) -> None:
    stretched = died = 0
    for seed in range(first, first + GROUP):
        plain, one = run(seed, stretch=False)
        bulk, other = run(seed, stretch=True)
        if isinstance(plain, str) or isinstance(bulk, str):
            assert plain == bulk
            assert "ut of memory" in str(plain)
            died += 1
            continue
        assert bulk.finished == plain.finished
        assert bulk.aborted == plain.aborted
        assert bulk.iterations == plain.iterations
        for expected, got in zip(plain.usage, bulk.usage, strict=True):
            assert got in (expected, None)
        assert not one.sequences
        assert not one.running
        assert (one.pool.free, one.pool.tree.evictable_tokens) == (
            other.pool.free,
            other.pool.tree.evictable_tokens,
        )
        assert one.pool.free + one.pool.tree.evictable_tokens == one.pool.size
        assert one.steps == other.steps
        assert one.ratio.current == other.ratio.current
        assert one.processed_tokens == other.processed_tokens
        stretched += bulk.stretched
    assert stretched > 100
    assert died < GROUP // 4


class Watched(SglangScheduler):
    """Remembers every row that it has had."""

    def __init__(self, config: SglangConfig) -> None:
        super().__init__(config)
        self.rows: list[Row] = []

    def add(self, request: Request, arrival_order: float, arrived_ns: int = 0) -> Row:
        row = super().add(request, arrival_order, arrived_ns)
        self.rows.append(row)
        return row


def token_steps(seed: int, stretch: dict[str, Any]) -> list[list[int]]:
    """Return the steps of every request's tokens."""
    draw = random.Random(seed)
    config: Any = build_config(draw)
    scheduler = Watched(config)
    drive(scheduler, config, build_arrivals(draw), **stretch)
    return [
        list(row.token_steps or range(row.first_token_step, row.first_token_step + row.outputs))
        for row in scheduler.rows
    ]


@pytest.mark.parametrize("seed", range(12))
def test_rows_keep_their_steps_in_stretches(seed: int) -> None:
    """The step of every token is the same, whether its batch was decided or passed over."""
    steps = token_steps(seed, {})
    assert token_steps(seed, {"stretch": lambda longest: longest}) == steps
    assert all(tokens == sorted(set(tokens)) for tokens in steps)


# -- rules that random loads show, and mutants that break them ----------------------------------------------


def check_rules(policy: type[SglangScheduler], seed: int) -> int:
    """Drive an observed scheduler and check each decision; return how many requests were retracted.

    First come is first served, retraction takes those that have generated least, and no token is lost.
    """
    draw = random.Random(seed)
    options: dict[str, Any] = {"schedule_policy": "fcfs", "retraction_policy": "length"}
    config: Any = replace(
        build_config(draw), schedule_conservativeness=0.02, enable_priority_scheduling=False, **options
    )
    arrivals = build_arrivals(draw)
    came = [request.id for at in sorted(arrivals) for request in arrivals[at]]
    scheduler = policy(config, observe=True)
    served: list[int] = []
    retracted = 0

    def watch(_: int, batch: Batch | None) -> None:
        nonlocal retracted
        seen = scheduler.observation
        assert seen is not None
        for entry in batch.entries if batch is not None else ():
            if entry.sequence.id not in served:
                served.append(entry.sequence.id)
        ranks = [
            (scheduler.decoders.generated(row), -row.request.prompt_tokens) for row in scheduler.batch.rows
        ]
        for request_id in seen.retracted:
            row = scheduler.sequences[request_id]
            assert all((row.outputs, -row.request.prompt_tokens) <= rank for rank in ranks)
        retracted += len(seen.retracted)

    drive(scheduler, config, arrivals, observer=watch, max_iterations=5_000)
    assert served == came
    return retracted


def test_decisions_follow_the_rules() -> None:
    assert sum(check_rules(SglangScheduler, seed) for seed in range(60)) > 20


class WrongVictim(SglangScheduler):
    """Keeps those that have generated least."""

    def _order_to_keep(self) -> list[Row]:
        return super()._order_to_keep()[::-1]


class LostPage(SglangScheduler):
    """Forgets a page of a request that ends."""

    def _finish(self, row: Row, step: int) -> None:
        super()._finish(row, step)
        self.pool.free -= self.pool.page_size


class BrokenTie(SglangScheduler):
    """Serves those that come together in reverse order."""

    def _form_prefill(self) -> Batch | None:
        self.waiting.sort(key=lambda row: (row.arrived_ns, -row.id))
        return super()._form_prefill()


@pytest.mark.parametrize("mutant", [WrongVictim, LostPage, BrokenTie])
def test_mutants_are_caught(mutant: type[SglangScheduler]) -> None:
    def check_until_caught() -> None:
        for seed in range(60):
            check_rules(mutant, seed)

    with pytest.raises((AssertionError, IntegrityError, SimulationError)):
        check_until_caught()
