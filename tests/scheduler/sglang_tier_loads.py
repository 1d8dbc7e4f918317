"""SGLang's scheduler with tiers, paths that take their time, and small requests for it."""

from __future__ import annotations

from typing import Any

from simserve.kvcache.cache_plan import TierPlan
from simserve.kvcache.tier import TierSpec
from simserve.scheduler.batch import Batch, Landing, Transfer
from simserve.scheduler.kv_connector import InstantLinks
from simserve.scheduler.sglang import SglangScheduler
from simserve.scheduler.sglang.tiered_memory import TieredPool
from simserve.workload.request import Request, Segment
from tests.scheduler.sglang_loads import build


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
