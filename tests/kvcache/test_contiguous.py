"""Contiguous KV memory: regions by reservation, growth and moves, and where the memory goes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.errors import CapacityError, InputError, IntegrityError
from simserve.kvcache.contiguous import ALLOCATORS, ContiguousCache
from simserve.kvcache.reservation import RESERVES
from simserve.kvcache.run import NO_HITS
from simserve.scheduler.sequence import Sequence
from simserve.workload.request import Request


def sequence(request_id: int, prompt: int, outputs: int, max_tokens: int | None = None) -> Sequence:
    request = Request(request_id, 0, (), prompt, outputs, max_tokens or outputs, request_id)
    return Sequence(request, request_id, 10**6)


def admit(cache: ContiguousCache, table: Sequence) -> bool:
    cache.attach(table)
    admitted = cache.admit(table, *cache.lookup(table, table.known), table.known, table.known)
    if admitted:
        table.computed = table.known
    return admitted


def grow(cache: ContiguousCache, table: Sequence) -> bool:
    """Compute one token more."""
    grown = cache.grow(table, table.computed, table.computed + 1)
    table.computed += grown
    return grown


# -- what a request reserves ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reserve", "allocator", "places"),
    [
        ("max", "first_fit", 200),
        ("max_tokens", "first_fit", 170),
        # The paper's example: an output of 25 reserves 32.
        ("pow2", "first_fit", 132),
        ("oracle", "first_fit", 125),
        ("grow", "first_fit", 100),
        ("oracle", "buddy", 128),
        ("max", "buddy", 256),
    ],
)
def test_a_region_is_as_large_as_its_reservation_says(reserve: str, allocator: str, places: int) -> None:
    cache = ContiguousCache(1025, 1, allocator=allocator, reserve=reserve, max_model_len=200)
    assert admit(cache, sequence(0, 100, 25, max_tokens=70))
    assert 1024 - cache.pool.num_free == places


def test_an_output_that_is_a_power_of_two_reserves_just_that() -> None:
    cache = ContiguousCache(1025, 1, reserve="pow2", max_model_len=200)
    assert admit(cache, sequence(0, 100, 32))
    assert cache.pool.num_free == 1024 - 132


def test_max_tokens_never_reserves_beyond_the_longest_request() -> None:
    cache = ContiguousCache(1025, 1, reserve="max_tokens", max_model_len=200)
    assert admit(cache, sequence(0, 100, 25, max_tokens=5000))
    assert cache.pool.num_free == 1024 - 200


def test_reserving_the_longest_request_wastes_what_requests_fall_short_of_it() -> None:
    # Closed form: the share never used is 1 - mean(length) / max, whatever the lengths.
    rng = random.Random(3)
    longest, seats = 512, 20
    cache = ContiguousCache(seats * longest + 1, 1, reserve="max", max_model_len=longest)
    lengths = [(rng.randint(1, 400), rng.randint(1, 100)) for _ in range(seats)]
    tables = [sequence(number, prompt, outputs) for number, (prompt, outputs) in enumerate(lengths)]
    assert all(admit(cache, table) for table in tables)
    cache.sample(0, tables)
    mean = sum(prompt + outputs for prompt, outputs in lengths) / seats
    assert cache.fragmentation.shares()["never_used"] == pytest.approx(1 - mean / longest)
    assert not admit(cache, sequence(seats, 1, 1))


def test_an_oracle_wastes_nothing_inside_its_regions() -> None:
    cache = ContiguousCache(1001, 1, reserve="oracle", max_model_len=500)
    tables = [sequence(number, *lengths) for number, lengths in enumerate([(100, 50), (300, 20), (7, 93)])]
    assert all(admit(cache, table) for table in tables)
    cache.sample(0, tables)
    log = cache.fragmentation
    assert (log.used_sum, log.later_sum, log.unused_sum, log.free_sum) == (407, 163, 0, 430)


def test_buddies_round_up_what_was_reserved() -> None:
    cache = ContiguousCache(1025, 1, allocator="buddy", reserve="max_tokens", max_model_len=500)
    table = sequence(0, 100, 50, max_tokens=200)
    assert admit(cache, table)
    cache.sample(0, [table])
    log = cache.fragmentation
    assert (log.used_sum, log.later_sum, log.unused_sum, log.rounded_sum) == (100, 50, 150, 512 - 300)


def test_units_of_several_tokens_round_regions_up() -> None:
    cache = ContiguousCache(101, 16, reserve="oracle", max_model_len=500)
    table = sequence(0, 100, 25)
    assert admit(cache, table)
    cache.sample(0, [table])
    assert 100 - cache.pool.num_free == 8
    assert (cache.fragmentation.unused_sum, cache.fragmentation.rounded_sum) == (0, 8 * 16 - 125)


# -- fragmentation -------------------------------------------------------------------------------------------


def test_a_request_is_refused_by_fragmentation_where_the_free_memory_would_do() -> None:
    cache = ContiguousCache(101, 1, reserve="oracle", max_model_len=100)
    tables = [sequence(number, 20, 5) for number in range(4)]
    assert all(admit(cache, table) for table in tables)
    cache.release(tables[0])
    cache.release(tables[2])
    large = sequence(4, 30, 10)
    assert not admit(cache, large)
    assert not admit(cache, large)  # the same memory: not counted again
    cache.sample(0, [tables[1], tables[3]])
    log = cache.fragmentation
    assert (log.refused, log.refused_by_fragmentation) == (1, 1)
    assert (log.free_sum, log.scattered_sum) == (50, 25)
    cache.release(tables[1])
    assert admit(cache, large)
    cache.check_integrity([tables[3], large])


def test_best_fit_leaves_the_hole_that_first_fit_cuts() -> None:
    def admits_the_large_one(allocator: str) -> bool:
        cache = ContiguousCache(101, 1, allocator=allocator, reserve="oracle", max_model_len=100)
        tables = [sequence(number, size - 1, 1) for number, size in enumerate((50, 10, 20, 20))]
        assert all(admit(cache, table) for table in tables)
        cache.release(tables[0])
        cache.release(tables[2])
        assert admit(cache, sequence(4, 19, 1))
        return admit(cache, sequence(5, 49, 1))

    assert not admits_the_large_one("first_fit")
    assert admits_the_large_one("best_fit")


def test_rows_tell_how_memory_changed_over_time() -> None:
    cache = ContiguousCache(101, 1, reserve="oracle", max_model_len=100)
    first, second = sequence(0, 10, 10), sequence(1, 30, 5)
    admit(cache, first)
    cache.sample(0, [first])
    assert grow(cache, first)
    cache.sample(1, [first])
    admit(cache, second)
    cache.sample(2, [first, second])
    cache.release(first)
    cache.sample(3, [second])
    log = cache.fragmentation
    rows = list(zip(log.step, log.used, log.later, log.unused, log.free, log.largest_hole, strict=True))
    assert rows == [(0, 10, 10, 0, 80, 80), (2, 41, 14, 0, 45, 45), (3, 30, 5, 0, 65, 45)]
    assert list(log.rounded) == [0, 0, 0]


# -- growing and moving --------------------------------------------------------------------------------------


def test_a_full_region_doubles_in_its_place_or_is_copied() -> None:
    cache = ContiguousCache(101, 1, reserve="grow", max_model_len=100)
    first = sequence(0, 10, 60)
    admit(cache, first)
    assert grow(cache, first)
    assert (cache.pool.num_free, cache.take_moved_tokens()) == (80, 0)
    second = sequence(1, 10, 60)
    admit(cache, second)
    assert cache.capacity_tokens(first) == 20
    assert all(grow(cache, first) for _ in range(10))
    # The second stands behind it: 20 tokens go to a place of 40.
    assert (cache.pool.num_free, cache.take_moved_tokens(), cache.take_moved_tokens()) == (50, 20, 0)
    log = cache.fragmentation
    assert (log.moves, log.moved_tokens) == (1, 20)
    cache.check_integrity([first, second])


def test_a_region_takes_less_than_double_where_memory_is_short() -> None:
    cache = ContiguousCache(31, 1, reserve="grow", max_model_len=30)
    first, second = sequence(0, 10, 20), sequence(1, 5, 20)
    admit(cache, first)
    admit(cache, second)
    assert all(grow(cache, second) for _ in range(3))
    assert cache.pool.num_free == 30 - 10 - 10
    assert not grow(cache, first), "neither 20 nor 11 places are free in one piece"
    cache.check_integrity([first, second])
    cache.release(second)
    assert grow(cache, first)
    assert cache.take_moved_tokens() == 0


@settings(max_examples=100, deadline=None)
@given(
    allocator=st.sampled_from(list(ALLOCATORS)),
    reserve=st.sampled_from(RESERVES),
    block_size=st.sampled_from((1, 4, 16)),
    operations=st.lists(st.tuples(st.sampled_from("aggggr"), st.integers(0, 99)), max_size=80),
)
def test_no_token_is_ever_lost_or_in_two_places(
    allocator: str, reserve: str, block_size: int, operations: list[tuple[str, int]]
) -> None:
    units = 400 // block_size
    cache = ContiguousCache(
        units + 1, block_size, allocator=allocator, reserve=reserve, max_model_len=15 * block_size
    )
    running: list[Sequence] = []
    for step, (what, number) in enumerate(operations):
        if what == "a":
            prompt = 1 + number % (7 * block_size)
            table = sequence(step, prompt, 1 + number % (6 * block_size), max_tokens=8 * block_size)
            if admit(cache, table):
                running.append(table)
        elif running and what == "r":
            table = running.pop(number % len(running))
            cache.release(table)
        elif running:
            table = running[number % len(running)]
            if table.computed < table.request.prompt_tokens + table.limit:
                grow(cache, table)
        cache.check_integrity(running)
        cache.sample(step, running)
        log = cache.fragmentation
        parts = (log.used_sum, log.later_sum, log.unused_sum, log.rounded_sum, log.free_sum)
        assert min(parts) >= 0
        assert sum(parts) == log.steps * log.capacity_tokens
    for table in running:
        cache.release(table)
    cache.check_integrity([])
    assert cache.pool.num_free == units


@settings(max_examples=100, deadline=None)
@given(
    prompts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    decoders=st.integers(1, 6),
    steps=st.integers(1, 30),
)
def test_a_stretch_sums_up_what_its_steps_do(prompts: list[int], decoders: int, steps: int) -> None:
    caches = [ContiguousCache(1001, 1, reserve="oracle", max_model_len=100) for _ in range(2)]
    tables = [sequence(number, prompt, 50) for number, prompt in enumerate(prompts)]
    for cache in caches:
        assert all(admit(cache, table) for table in tables)
    stepping, jumping = caches
    chosen = tables[:decoders]
    jumping.sample(0, tables, steps, len(chosen))
    for step in range(steps):
        stepping.sample(step, tables)
        assert all(grow(stepping, table) for table in chosen)
    assert jumping.fragmentation == stepping.fragmentation


# -- what cannot be ------------------------------------------------------------------------------------------


def test_nothing_is_shared() -> None:
    cache = ContiguousCache(101, 1, max_model_len=100)
    table = sequence(0, 10, 10)
    admit(cache, table)
    cache.publish(table, 10)
    assert cache.lookup(sequence(0, 10, 10), 10) == (NO_HITS, 0)
    cache.evict_all(table)
    assert cache.pool.num_free == 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reserve": "orakle"}, "did you mean 'oracle'"),
        ({"allocator": "bestfit"}, "did you mean 'best_fit'"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ContiguousCache(101, 1, max_model_len=100, **options)


def test_a_longest_request_that_can_never_fit_is_refused() -> None:
    with pytest.raises(CapacityError, match="largest holds 64"):
        ContiguousCache(101, 1, allocator="buddy", reserve="max", max_model_len=100)
    ContiguousCache(101, 1, allocator="first_fit", reserve="max", max_model_len=100)


def test_lost_memory_and_strangers_are_found() -> None:
    cache = ContiguousCache(101, 1, reserve="oracle", max_model_len=100)
    table = sequence(0, 10, 10)
    admit(cache, table)
    with pytest.raises(IntegrityError, match="hold memory"):
        cache.check_integrity([])
    cache._allocator.free(0, 20)
    with pytest.raises(IntegrityError, match="owned twice"):
        cache.check_integrity([table])
