"""Small loads for SGLang's scheduler: build one, add requests, go pass by pass."""

from __future__ import annotations

from typing import Any

from simserve.scheduler.sglang import SglangScheduler
from simserve.scheduler.sglang.config import SglangConfig
from simserve.scheduler.sglang.row import Row
from simserve.workload.request import Request, Segment


def build(**options: Any) -> SglangScheduler:
    defaults: dict[str, Any] = {
        "pool_tokens": 100, "context_len": 100, "max_running_requests": 4, "disable_overlap_schedule": True,
    }  # fmt: skip
    return SglangScheduler(SglangConfig(**{**defaults, **options}), observe=True)


def make(request_id: int, prompt: int, most: int = 4, **fields: Any) -> Request:
    stream = fields.pop("stream", request_id)
    output = fields.pop("output", most)
    return Request(
        request_id, 0, (Segment(stream, 0, prompt),), prompt, output, most, 100 + request_id, **fields
    )


def add(scheduler: SglangScheduler, request_id: int, prompt: int, most: int = 4, **fields: Any) -> Row:
    return scheduler.add(make(request_id, prompt, most, **fields), request_id)


def step(scheduler: SglangScheduler) -> Any:
    """One pass without overlap; returns what was decided."""
    batch = scheduler.schedule()
    if batch is not None:
        scheduler.complete()
    scheduler.check_integrity()
    return scheduler.observation
