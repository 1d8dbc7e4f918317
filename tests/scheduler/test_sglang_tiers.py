"""SGLang's scheduler with host memory behind the GPU's (HiCache), rule by rule."""

from __future__ import annotations

from simserve.scheduler.batch import FROM_HOST, TO_HOST, Transfer
from simserve.workload.request import Segment
from tests.scheduler.sglang_tier_loads import SlowLinks, build_tiered, prompt, serve, step

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


def test_a_pass_that_must_decode_waits_for_no_landing() -> None:
    """Where a chunk has to let passes go by, those are what it waits for, not the copies under way."""
    scheduler, _ = build_tiered(chunked_prefill_size=8, prefill_decode_interval=3)
    assert scheduler.connector is not None
    scheduler.connector.links = SlowLinks()
    scheduler.add(prompt(0, 1, 30), 0)
    step(scheduler, 0)
    assert step(scheduler, 1) is None
    assert step(scheduler, 2) is None
    assert scheduler.connector.links.free_at(0) > 2
    assert scheduler.wake_at(2) is None
