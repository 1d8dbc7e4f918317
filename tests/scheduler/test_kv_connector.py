"""What moves between GPU and tiers becomes transfers on the right paths, and requests wait for theirs."""

from __future__ import annotations

import pytest

from simserve.engine.transfers import TierPath, TransferClock
from simserve.kvcache.cache_plan import TierPlan
from simserve.kvcache.tier import TierSpec
from simserve.kvcache.tier_moves import Move
from simserve.scheduler.batch import FROM_HOST, TO_HOST, Landing, Transfer, read_path, write_path
from simserve.scheduler.kv_connector import KVConnector

MB = 1_000_000


def build(gpus: int = 1) -> KVConnector:
    """Host memory over PCIe at 10 GB/s, a drive that is read at 1 and written at 0.5 GB/s, a pool at 1."""
    specs = (
        TierSpec("host", 100 * MB, 10e9),
        TierSpec("drive", 100 * MB, 1e9, 0.002, "back", 0.5e9),
        TierSpec("pool", 100 * MB, 1e9, 0.0, "back"),
    )
    connector = KVConnector(TierPlan(specs, (False, True, True), 1, gpus=gpus))
    paths = [TierPath(s.name, s.read_bytes_per_s, s.written_at_bytes_per_s, s.latency_s) for s in specs]
    connector.links = TransferClock(10e9, 100e9, paths)
    return connector


@pytest.mark.parametrize(
    ("source", "target", "path", "via"),
    [
        ("gpu", "host", TO_HOST, -1),
        ("host", "gpu", FROM_HOST, -1),
        ("drive", "gpu", read_path(1), -1),
        ("gpu", "drive", write_path(1), -1),
        ("host", "drive", write_path(1), -1),  # out of host memory: the GPU's PCIe is not asked
        ("drive", "host", read_path(1), -1),
        ("drive", "pool", read_path(1), write_path(2)),
    ],
)
def test_each_move_has_its_paths(source: str, target: str, path: int, via: int) -> None:
    connector = build(gpus=4)
    (transfer,) = connector.awaited([Move(source, target, 4 * MB + 1, 7, (3, 5))], layers=32)
    is_load = target == "gpu"
    assert transfer == Transfer(
        path, MB + 1, 1, is_load, ticket=7, after=(3, 5), via=via, layers=32 if is_load else 0
    )


def test_within_host_memory_nothing_is_waited_for() -> None:
    specs = (TierSpec("host", MB, 1e9), TierSpec("other", MB, 1e9))
    connector = KVConnector(TierPlan(specs, (False, False), 1))
    assert connector.awaited([Move("host", "other", MB, 1, ())]) == []
    connector.begin_decision(5)
    assert connector.start([Move("host", "other", MB, 1, ())]) == Landing(5, 5)


def test_a_request_waits_for_its_own_bytes_only() -> None:
    connector = build()
    connector.begin_decision(1000)
    moves = [Move("gpu", "host", 50 * MB, 1), Move("host", "gpu", 10 * MB, 2), Move("drive", "gpu", MB, 3)]
    landing = connector.start(moves)
    # The host's bytes take 1 ms, the drive's 2 + 1 ms; what goes to the host takes 5 ms.
    assert landing == Landing(1000, 3_001_000)
    connector.hold(4, landing)
    assert connector.is_loading(4)
    assert not connector.is_loading(5)
    assert connector.next_landing(1000) == 3_001_000
    assert connector.next_landing(3_001_000) is None
    connector.begin_decision(3_000_999)
    assert connector.is_loading(4)
    connector.begin_decision(3_001_000)
    assert not connector.is_loading(4)
    connector.forget(4)
    assert connector.next_landing(1000) is None
    assert connector.start([Move("gpu", "host", 10 * MB, 4)]).end_ns == 6_001_000


def test_a_prefetch_begins_with_the_next_decision() -> None:
    connector = build()
    connector.defer([Move("drive", "host", MB, 1)], 9)
    assert connector.next_landing(0) is None
    connector.begin_decision(500)
    assert connector.next_landing(500) == 3_000_500
    # What it brings can be read when it has landed.
    assert connector.landing_wait_s(1) == pytest.approx(0.003)
    assert connector.start([Move("host", "gpu", 10 * MB, 2, (1,))]) == Landing(3_000_500, 4_000_500)


def test_waits_are_known_in_a_decision_only() -> None:
    connector = build()
    connector.begin_decision(0)
    connector.start([Move("host", "gpu", 20 * MB, 1), Move("drive", "gpu", MB, 2)])
    assert [connector.path_wait_s(tier) for tier in range(3)] == [0.002, 0.003, 0.0]
    connector.end_decision()
    assert [connector.path_wait_s(tier) for tier in range(3)] == [0.0] * 3
    assert connector.landing_wait_s(1) == 0.0
    connector.begin_decision(1_000_000)
    assert connector.path_wait_s(0) == 0.001
    assert connector.landing_wait_s(1) == 0.001


def test_without_an_engine_all_lands_at_once() -> None:
    connector = KVConnector(build().plan)
    connector.begin_decision(7)
    assert connector.start([Move("drive", "gpu", 50 * MB, 1)]) == Landing(7, 7)
    assert connector.path_wait_s(1) == connector.landing_wait_s(1) == 0.0
