"""What lies behind the host's memory under SGLang: who waits for what is read, and how long."""

from __future__ import annotations

import pytest

from simserve.errors import UnknownNameError
from simserve.scheduler.sglang import SglangScheduler
from simserve.scheduler.sglang.tiered_memory import TieredPool
from simserve.workload.request import Segment
from tests.scheduler.sglang_loads import build
from tests.scheduler.sglang_tier_loads import SlowLinks, build_tiered, prompt, serve, step

MS = 1_000_000


def build_stored(policy: str) -> tuple[SglangScheduler, TieredPool, int]:
    """Return a scheduler whose storage alone has 640 tokens of stream 1, and a time when all has landed."""
    scheduler, pool = build_tiered(
        host=1400, disk=10_000, pool_tokens=700, context_len=2000, hicache_storage_prefetch_policy=policy
    )
    serve(scheduler, prompt(0, 1, 640))
    serve(scheduler, prompt(1, 2, 690), 1)
    serve(scheduler, prompt(2, 3, 690), 2)
    assert pool.tree.peek([Segment(1, 0, 640)], 640) == 0
    assert scheduler.connector is not None
    scheduler.connector.links = SlowLinks()
    return scheduler, pool, 10 * MS


def test_a_request_waits_for_what_is_read_and_others_go_by() -> None:
    scheduler, pool, now = build_stored("wait_complete")
    scheduler.add(prompt(3, 1, 640, tail=8), 3)
    scheduler.add(prompt(4, 4, 5, most=1), 4)
    batch = step(scheduler, now)
    assert batch is not None
    assert [entry.sequence.id for entry in batch.entries] == [4]
    assert pool.tree.host_reserved == 640
    assert scheduler.wake_at(now) is None, "there is a copy to begin at once"
    assert step(scheduler, now) is None
    landing = now + 640_000
    assert scheduler.wake_at(now) == landing
    assert step(scheduler, landing - 1) is None
    batch = step(scheduler, landing)
    assert batch is not None
    assert [(entry.tokens, entry.computed_before) for entry in batch.entries] == [(8, 640)]
    assert (pool.tier_counts["nvme"].read_bytes, pool.tree.host_reserved) == (640, 0)


def test_best_effort_takes_whole_chunks_of_what_has_landed() -> None:
    scheduler, pool, now = build_stored("best_effort")
    scheduler.batch.full = True  # as if nobody could join yet
    row = scheduler.add(prompt(3, 1, 640, tail=8), 3)
    pool.begin_pass(scheduler.sequences, now)
    pool.begin_pass(scheduler.sequences, now + 200_000)  # 200 of 640 tokens
    assert pool.look_up(row)
    assert (row.prefix, row.host_hit) == (0, 192)
    assert pool.tree.host_reserved == 0


def test_a_timeout_starts_when_the_request_is_tried_first() -> None:
    scheduler, pool, now = build_stored("timeout")
    row = scheduler.add(prompt(3, 1, 640, tail=8), 3)
    assert isinstance(scheduler.connector.links if scheduler.connector else None, SlowLinks)
    scheduler.connector.links.free_ns = 3600 * 10**9  # type: ignore[union-attr]
    pool.begin_pass(scheduler.sequences, now)
    assert not pool.look_up(row)
    # A second, and a quarter for every 1,024 of the 647 tokens that it misses.
    deadline = now + 10**9 + round(647 * 0.25 / 1024 * 1e9)
    assert scheduler.wake_at(now) == deadline + 1
    pool.begin_pass(scheduler.sequences, deadline)
    assert not pool.look_up(row)
    pool.begin_pass(scheduler.sequences, deadline + 1)
    assert pool.look_up(row)
    assert (row.prefix, row.host_hit) == (0, 0)


def test_a_request_that_goes_gives_back_the_room_for_what_is_read() -> None:
    scheduler, pool, now = build_stored("wait_complete")
    scheduler.add(prompt(3, 1, 640, tail=8), 3)
    step(scheduler, now)
    assert pool.tree.host_reserved == 640
    scheduler.abort(3)
    scheduler.check_integrity()
    assert (pool.tree.host_reserved, scheduler.wake_at(now)) == (0, None)


def test_short_stretches_are_not_read() -> None:
    scheduler, pool, now = build_stored("wait_complete")
    scheduler.add(prompt(3, 1, 250, tail=300), 3)
    batch = step(scheduler, now)
    assert batch is not None
    assert batch.prefill_tokens == 550
    assert pool.tier_counts["nvme"].hit_chunks == 3


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'wait_complete'"):
        build(hicache_storage_prefetch_policy="wait_complet")
