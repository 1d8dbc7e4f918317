"""SGLang's scheduler with memory behind the GPU's (HiCache), rule by rule."""

from __future__ import annotations

from typing import Any

import pytest

from simserve.errors import UnknownNameError
from simserve.kvcache.cache_plan import TierPlan
from simserve.kvcache.tier import TierSpec
from simserve.scheduler.batch import FROM_HOST, TO_HOST, Batch, Landing, Transfer
from simserve.scheduler.kv_connector import InstantLinks
from simserve.scheduler.sglang import SglangScheduler
from simserve.scheduler.sglang.tiered_memory import TieredPool
from simserve.workload.request import Request, Segment
from tests.scheduler.sglang_loads import build

MS = 1_000_000


class SlowLinks(InstantLinks):
    """One path for all, a token's byte a microsecond."""

    def __init__(self) -> None:
        self.started: list[Transfer] = []
        self.free_ns = 0

    def start(self, transfer: Transfer, now_ns: int) -> Landing:
        begin = max(now_ns, self.free_ns)
        self.free_ns = begin + transfer.size_bytes * 1000
        self.started.append(transfer)
        return Landing(begin, self.free_ns)

    def free_at(self, path: int) -> int:
        return self.free_ns


def build_tiered(
    host: int = 1000, write: Any = "through", disk: int = 0, load: Any = "layerwise", **options: Any
) -> tuple[SglangScheduler, TieredPool]:
    specs = [TierSpec("host", host, 1e9, write=write)]
    if disk:
        specs.append(TierSpec("nvme", disk, 1e6))
    own_paths = (False, True)[: len(specs)]
    plan = TierPlan(tuple(specs), own_paths, bytes_per_token=1, chunk_tokens=64, load=load, layers=4)
    scheduler = build(**{"pool_tokens": 100, "context_len": 1000, "tiers": plan} | options)
    assert isinstance(scheduler.pool, TieredPool)
    return scheduler, scheduler.pool


def prompt(request_id: int, stream: int, tokens: int, most: int = 2, tail: int = 0) -> Request:
    """A request for the first tokens of a stream, and then some of its own."""
    segments = [Segment(stream, 0, tokens)]
    if tail:
        segments.append(Segment(1000 + request_id, 0, tail))
    shared = tokens + tail
    return Request(request_id, 0, tuple(segments), shared, most, most, 100 + request_id, shared_tokens=shared)


def step(scheduler: SglangScheduler, now_ns: int = 0) -> Batch | None:
    batch = scheduler.schedule(now_ns)
    if batch is not None:
        scheduler.complete()
    scheduler.check_integrity()
    return batch


def serve(scheduler: SglangScheduler, request: Request, now_ns: int = 0) -> Batch:
    """Serve a request alone; return its prefill."""
    scheduler.add(request, request.id)
    first = step(scheduler, now_ns)
    assert first is not None
    while scheduler.sequences:
        step(scheduler, now_ns)
    step(scheduler, now_ns)
    return first


# -- loads ---------------------------------------------------------------------------------------------------


def test_what_the_host_has_is_loaded_layer_by_layer_with_the_batch() -> None:
    scheduler, pool = build_tiered()
    serve(scheduler, prompt(0, 1, 60))
    serve(scheduler, prompt(1, 2, 70))  # takes the place of the first one's
    assert (pool.tree.peek([Segment(1, 0, 60)], 60), pool.tree.match([Segment(1, 0, 60)], 60)[1]) == (60, 0)
    batch = serve(scheduler, prompt(2, 1, 60, tail=5))
    assert [(entry.tokens, entry.computed_before) for entry in batch.entries] == [(5, 60)]
    assert batch.transfers == [Transfer(FROM_HOST, 60, layers=4)]
    assert pool.counts.read_bytes == 60
    assert pool.tier_counts == {"host": pool.counts}


def test_a_blocking_load_is_awaited_whole() -> None:
    scheduler, _ = build_tiered(load="blocking")
    serve(scheduler, prompt(0, 1, 60))
    serve(scheduler, prompt(1, 2, 70))
    assert serve(scheduler, prompt(2, 1, 60, tail=5)).transfers == [Transfer(FROM_HOST, 60)]


def test_fewer_than_ten_tokens_are_computed_again() -> None:
    scheduler, pool = build_tiered()
    serve(scheduler, prompt(0, 1, 9))
    serve(scheduler, prompt(1, 2, 95))
    batch = serve(scheduler, prompt(2, 1, 9, tail=5))
    assert [(entry.tokens, entry.computed_before) for entry in batch.entries] == [(14, 0)]
    assert (batch.transfers, pool.counts.read_bytes) == (None, 0)
    # What was computed takes the place of what the host alone had.
    assert pool.tree.match([Segment(1, 0, 9)], 9)[1] == 9


def test_a_load_takes_room_and_is_left_out_where_there_is_none() -> None:
    scheduler, pool = build_tiered(chunked_prefill_size=200)
    serve(scheduler, prompt(0, 1, 60))
    serve(scheduler, prompt(1, 2, 80))
    scheduler.add(prompt(2, 3, 20, most=30), 2)
    step(scheduler)
    step(scheduler)
    # 21 of 100 tokens are held, 21 reserved: 60 of the host and 2 are too many, 55 and 2 are not.
    scheduler.add(prompt(3, 1, 60, tail=2), 3)
    batch = step(scheduler)
    assert batch is not None
    assert (batch.entries, scheduler.batch.full) == ([], True)
    # Without tokens to spare it is computed after all.
    row = scheduler.sequences[3]
    assert pool.look_up(row)
    assert (row.prefix, row.host_hit) == (0, 60)
    pool.free, free = 0, pool.free
    assert not pool.load_back(row)
    assert (row.prefix, row.host_hit) == (0, 0)
    pool.free = free
    scheduler.check_integrity()


def test_a_chunk_begins_behind_what_is_loaded() -> None:
    scheduler, _ = build_tiered(chunked_prefill_size=10, pool_tokens=120)
    serve(scheduler, prompt(0, 1, 60))
    serve(scheduler, prompt(1, 2, 90))
    scheduler.add(prompt(2, 1, 60, tail=25), 2)
    seen = []
    while scheduler.sequences:
        batch = step(scheduler)
        seen += [(entry.tokens, entry.computed_before) for entry in batch.entries] if batch else []
    assert seen == [(10, 60), (10, 70), (5, 80)]


def test_orders_count_what_the_host_has() -> None:
    scheduler, _ = build_tiered(schedule_policy="lpm", max_running_requests=1)
    serve(scheduler, prompt(0, 1, 60))
    serve(scheduler, prompt(1, 2, 80))
    scheduler.add(prompt(2, 3, 30), 2)
    scheduler.add(prompt(3, 1, 60, tail=5), 3)
    batch = step(scheduler)
    assert batch is not None
    assert [entry.sequence.id for entry in batch.entries] == [3]


# -- copies --------------------------------------------------------------------------------------------------


def test_a_copy_keeps_its_node_until_it_has_landed() -> None:
    scheduler, pool = build_tiered()
    links = SlowLinks()
    assert scheduler.connector is not None
    scheduler.connector.links = links
    serve(scheduler, prompt(0, 1, 60))
    assert [(each.path, each.size_bytes) for each in links.started] == [(TO_HOST, 60), (TO_HOST, 1)]
    assert pool.tree.evictable_tokens == 0
    assert scheduler.wake_at(0) == 60_000
    assert scheduler.horizon(1) == -1
    step(scheduler, 60_000)
    assert pool.tree.evictable_tokens == 0, "the output behind it is still being copied"
    step(scheduler, 61_000)
    assert (pool.tree.evictable_tokens, scheduler.wake_at(61_000)) == (61, None)


def test_write_back_waits_for_the_copy_of_what_makes_room() -> None:
    scheduler, pool = build_tiered(write="back")
    serve(scheduler, prompt(0, 1, 60))
    assert pool.counts.written_bytes == 0
    batch = serve(scheduler, prompt(1, 2, 70))
    assert batch.transfers is not None
    assert [each._replace(size_bytes=0) for each in batch.transfers] == [Transfer(TO_HOST, 0)] * len(
        batch.transfers
    )
    assert pool.counts.written_bytes == sum(each.size_bytes for each in batch.transfers) == 61


def test_write_back_makes_no_stretch_in_which_it_would_copy() -> None:
    reach = {}
    for write in ("through", "back"):
        scheduler, pool = build_tiered(write=write)
        scheduler.observe = False
        serve(scheduler, prompt(0, 1, 60))
        scheduler.add(prompt(1, 2, 20, most=30), 1)
        step(scheduler)
        scheduler.schedule()
        assert pool.free == 100 - 61 - 20 - 1
        reach[write] = scheduler.horizon()
    assert reach == {"through": 28, "back": 18}  # to its end, or as far as what is free


# -- storage -------------------------------------------------------------------------------------------------


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
    landing = scheduler.wake_at(now)
    assert landing == now + 640_000
    assert step(scheduler, now + 1) is None
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
