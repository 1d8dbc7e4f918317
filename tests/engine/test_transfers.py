"""Transfers follow each other on a path, and a step waits for its own."""

from __future__ import annotations

import pytest

from simserve.cost.simple import ConstantTimer
from simserve.engine.clock import StageClock
from simserve.engine.transfers import COPY_S, TransferClock
from simserve.scheduler.batch import FIRST_TIER, FROM_HOST, ON_DEVICE, TO_HOST, Batch, Transfer


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


def test_a_direction_is_shared_and_the_other_is_not() -> None:
    clock = build()
    out = Transfer(TO_HOST, 10_000_000)
    assert clock.land([out], 0) == 1_000_000
    assert clock.land([out, Transfer(FROM_HOST, 5_000_000)], 500_000) == 2_000_000
    assert clock.land([Transfer(FROM_HOST, 5_000_000)], 500_000) == 1_500_000


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


def test_what_nobody_awaits_only_keeps_its_path_busy() -> None:
    clock = build()
    assert clock.land([Transfer(TO_HOST, 10_000_000, awaited=False)], 0) == 0
    assert clock.land([Transfer(FROM_HOST, 1_000_000)], 0) == 100_000
    assert clock.land([Transfer(TO_HOST, 10_000_000)], 0) == 2_000_000


def test_tiers_have_paths_and_latencies_of_their_own() -> None:
    clock = TransferClock(10e9, 100e9, [(10e9, 0.0), (1e9, 0.002)])
    drive = Transfer(FIRST_TIER + 1, 1_000_000)
    assert clock.duration_ns(drive) == 3_000_000
    assert clock.land([drive, Transfer(FROM_HOST, 10_000_000)], 0) == 3_000_000
    assert clock.land([drive], 1_000_000) == 6_000_000


def test_a_fetch_waits_for_its_own_prefetch() -> None:
    clock = TransferClock(10e9, 100e9, [(10e9, 0.0), (1e9, 0.0)])
    drive = FIRST_TIER + 1
    early, late = (Transfer(drive, 1_000_000, awaited=False, ticket=number) for number in (4, 5))
    assert clock.land([early, late], 0) == 0
    assert clock.land([Transfer(FROM_HOST, 1_000_000, ticket=4)], 0) == 1_100_000
    assert clock.land([Transfer(FROM_HOST, 1_000_000, ticket=4)], 0) == 1_200_000  # landed long ago
    assert clock.land([Transfer(FROM_HOST, 1_000_000, ticket=5)], 0) == 2_100_000
