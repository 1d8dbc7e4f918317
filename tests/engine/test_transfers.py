"""Transfers follow each other on a path, and a step waits for its own."""

from __future__ import annotations

import pytest

from simserve.cost.simple import ConstantTimer, LinearTimer
from simserve.engine.clock import StageClock
from simserve.engine.transfers import COPY_S, LayeredLoad, TierPath, TransferClock
from simserve.scheduler.batch import (
    FROM_HOST,
    ON_DEVICE,
    TO_HOST,
    Batch,
    Forecast,
    Landing,
    Transfer,
    read_path,
    write_path,
)


def build() -> TransferClock:
    """10 GB/s over PCIe, 100 GB/s in memory."""
    return TransferClock(10e9, 100e9)


@pytest.mark.parametrize(
    ("transfer", "expected_ns"),
    [
        (Transfer(TO_HOST, 10_000_000), 1_000_000),
        (Transfer(FROM_HOST, 10_000_000), 1_000_000),
        (Transfer(ON_DEVICE, 10_000_000), 200_000),  # read and written
        (Transfer(TO_HOST, 10_000_000, copies=1000), round(1000 * COPY_S * 1e9)),  # small pieces
        (Transfer(ON_DEVICE, 10_000_000, copies=1000), 200_000),  # one kernel
    ],
)
def test_a_transfer_takes_the_longer_of_wire_and_submission(transfer: Transfer, expected_ns: int) -> None:
    assert build().duration_ns(transfer) == expected_ns


def land(clock: TransferClock, transfers: list[Transfer], now_ns: int) -> int:
    """Return when a step could begin that waits for these."""
    return clock.land(transfers, now_ns)[0]


def test_a_direction_is_shared_and_the_other_is_not() -> None:
    clock = build()
    out = Transfer(TO_HOST, 10_000_000)
    assert land(clock, [out], 0) == 1_000_000
    assert land(clock, [out, Transfer(FROM_HOST, 5_000_000)], 500_000) == 2_000_000
    assert land(clock, [Transfer(FROM_HOST, 5_000_000)], 500_000) == 1_500_000
    assert clock.busy_ns == {"to_host": 2_000_000, "from_host": 1_000_000}
    assert clock.busy_until(1_200_000) == {"to_host": 1_200_000, "from_host": 700_000}


@pytest.mark.parametrize("stages", [1, 2])
def test_a_step_begins_when_its_transfers_have_landed(stages: int) -> None:
    timers = [ConstantTimer(0.001)] * stages
    clock = StageClock(timers, host_ns=0, serial=False, transfers=build())
    batch = Batch(0)
    batch.decodes = batch.samples = 1
    assert clock.dispatch(batch, 0) == stages * 1_000_000
    batch.transfers = [Transfer(TO_HOST, 10_000_000)]
    # It begins when the first stage is free: KV blocks are in use until then.
    assert clock.dispatch(batch, 0) == 1_000_000 + 1_000_000 + stages * 1_000_000


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize(
    ("size_bytes", "step_ns"),
    [
        (4_000_000, 1_100_000),  # 0.4 ms in four pieces: the first layer waits for its own, 0.1 ms
        (40_000_000, 4_250_000),  # 4 ms: the last of four layers runs when all has landed
    ],
)
def test_a_layerwise_load_overlaps_with_the_step(stages: int, size_bytes: int, step_ns: int) -> None:
    clock = StageClock([ConstantTimer(0.001)] * stages, host_ns=0, serial=False, transfers=build())
    batch = Batch(0)
    batch.decodes = batch.samples = 1
    batch.transfers = [Transfer(FROM_HOST, size_bytes, layers=4)]
    # A second stage follows the first; its own layers have landed by then.
    assert clock.dispatch(batch, 0) == step_ns + (stages - 1) * 1_000_000
    assert build().land([Transfer(FROM_HOST, 4_000_000, layers=4)], 0) == (100_000, [LayeredLoad(400_000, 4)])


def test_what_nobody_awaits_only_keeps_its_path_busy() -> None:
    clock = build()
    assert land(clock, [Transfer(TO_HOST, 10_000_000, awaited=False)], 0) == 0
    assert land(clock, [Transfer(FROM_HOST, 1_000_000)], 0) == 100_000
    assert land(clock, [Transfer(TO_HOST, 10_000_000)], 0) == 2_000_000


def test_tiers_have_paths_and_latencies_of_their_own() -> None:
    clock = TransferClock(10e9, 100e9, [TierPath("host", 10e9, 10e9), TierPath("drive", 1e9, 0.5e9, 0.002)])
    drive = Transfer(read_path(1), 1_000_000)
    assert clock.duration_ns(drive) == 3_000_000
    assert clock.duration_ns(Transfer(write_path(1), 1_000_000)) == 2_000_000
    assert land(clock, [drive, Transfer(FROM_HOST, 10_000_000)], 0) == 3_000_000
    assert land(clock, [drive], 1_000_000) == 6_000_000


def test_between_tiers_both_paths_are_held_for_the_slower_ones_time() -> None:
    clock = TransferClock(10e9, 100e9, [TierPath("host", 10e9, 10e9), TierPath("drive", 1e9, 0.5e9)])
    copy = Transfer(read_path(0), 1_000_000, via=write_path(1), awaited=False)
    assert clock.start(copy, 0) == Landing(0, 2_000_000)
    assert clock.start(Transfer(read_path(0), 1_000_000), 0) == Landing(2_000_000, 2_100_000)
    assert clock.start(Transfer(write_path(0), 1_000_000), 0) == Landing(0, 100_000)
    assert clock.start(copy, 0) == Landing(2_100_000, 4_100_000)


def test_bytes_can_be_read_when_their_write_has_landed() -> None:
    clock = TransferClock(10e9, 100e9, [TierPath("host", 10e9, 10e9), TierPath("drive", 1e9, 1e9)])
    early, late = (Transfer(read_path(1), 1_000_000, awaited=False, ticket=number) for number in (4, 5))
    assert land(clock, [early, late], 0) == 0
    assert [clock.landed_at(ticket) for ticket in (4, 5, 6)] == [1_000_000, 2_000_000, 0]
    assert land(clock, [Transfer(FROM_HOST, 1_000_000, after=(3, 4))], 0) == 1_100_000
    assert land(clock, [Transfer(FROM_HOST, 1_000_000)], 0) == 1_200_000
    clock.forget_landed(1_500_000)
    assert [clock.landed_at(ticket) for ticket in (4, 5)] == [0, 2_000_000]
    assert land(clock, [Transfer(FROM_HOST, 1_000_000, after=(4, 5))], 0) == 2_100_000


def test_weights_and_copies_take_the_path_from_the_host_one_after_the_other() -> None:
    timer = ConstantTimer(0.001)
    clock = StageClock(
        [timer], host_ns=0, serial=False, transfers=build(), weight_reads=[lambda tokens: 400_000]
    )
    links = clock.links
    assert links is not None
    batch = Batch(0)
    batch.decodes = batch.samples = 1
    assert clock.dispatch(batch, 0) == 1_000_000
    # A copy follows the weights of the step under way, and the next step's weights follow the copy.
    assert links.start(Transfer(FROM_HOST, 10_000_000), 0) == Landing(400_000, 1_400_000)
    assert clock.dispatch(batch, 1_000_000) == 2_400_000
    assert links.free_at(FROM_HOST) == 1_800_000
    # The other direction is not theirs.
    assert links.start(Transfer(TO_HOST, 10_000_000), 0) == Landing(0, 1_000_000)


@pytest.mark.parametrize("stages", [1, 3])
def test_a_plan_waits_for_copies_as_its_steps_would(stages: int) -> None:
    def build_clock() -> StageClock:
        timers = [LinearTimer(0.001, 0.0, 1e-6, 1e-8)] * stages
        reads = [lambda tokens: 300_000 + tokens] * stages
        return StageClock(timers, host_ns=0, serial=False, transfers=build(), weight_reads=reads)

    stepped, planned = build_clock(), build_clock()
    batch = Batch(0)
    batch.decodes = batch.samples = 4
    batch.context_tokens = 4000
    ends = []
    for clock in (stepped, planned):
        first = clock.dispatch(batch, 0)
        assert clock.links is not None
        # Begins when the first step's weights have left the path, and outlasts that step.
        clock.links.start(Transfer(FROM_HOST, 30_000_000), 0)
    for step in range(1, 6):
        batch.context_tokens += 4
        ends.append(stepped.dispatch(batch, ends[-1] if ends else first))
        if step == 3:
            assert stepped.links is not None
            third = stepped.links.free_at(FROM_HOST)
    plan = planned.plan([first], Forecast([(4, 4004)]), 5, first, 0)
    assert plan.ends[1:] == ends
    assert ends[0] >= 3_300_000 + stages * 1_000_000
    planned.follow(plan, 1, 3)
    assert planned.links is not None
    assert planned.links.free_at(FROM_HOST) == third
