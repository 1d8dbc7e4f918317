"""Cases of single rules of SGLang's scheduler, read from JSON: rows, trees, options; and their comparison."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simserve.conformance.checker import Checker
from simserve.conformance.golden import read_prompt
from simserve.kvcache.prefix_keys import merge_segments
from simserve.scheduler.sglang.config import SglangConfig
from simserve.scheduler.sglang.memory import TokenPool
from simserve.scheduler.sglang.row import Row
from simserve.workload.request import Request, Segment

# Token id of every output token in these logs, and tokens of a stream (the format's definitions).
_OUTPUT_TOKEN = 7
_STREAM_TOKENS = 65_536
# Room for everything: these cases state what is free themselves.
_ENDLESS = 1 << 40

SchedulerClass = Callable[..., Any]


def build_scheduler(
    check: Checker, raw: dict[str, Any], where: str, scheduler_class: SchedulerClass, **options: Any
) -> Any:
    """Return a scheduler with a case's page size and options, and the case's sequences in its tree."""
    page_size = check.whole(raw, "page_size", where, 1)
    config = SglangConfig(
        pool_tokens=_ENDLESS,
        context_len=_ENDLESS,
        page_size=page_size,
        waiting_prefix_refresh=False,  # off in these logs
        **options,
    )
    scheduler = scheduler_class(config)
    for n, item in enumerate(check.array(raw, "tree_inserts", where)):
        segments = _read_tokens(check, item, f"{where}.tree_inserts[{n}]")
        scheduler.pool.tree.insert(segments, sum(segment.length for segment in segments))
    return scheduler


def read_row(check: Checker, raw: Any, where: str, number: int, pool: TokenPool) -> Row:
    """Return a request with its sequence and its outputs so far."""
    raw = check.record(raw, where)
    segments = _read_tokens(check, check.array(raw, "seq", where), f"{where}.seq")
    prompt_tokens = sum(segment.length for segment in segments)
    row = make_row(
        number,
        prompt_tokens=prompt_tokens,
        outputs=check.whole(raw, "out", where, 0),
        max_new=check.whole(raw, "max_new", where, 0),
        session=raw.get("rk") or "",
        ignore_eos=bool(raw.get("ignore_eos", False)),
    )
    row.key = merge_segments((*segments, *[Segment(0, _OUTPUT_TOKEN, 1)] * row.outputs))
    row.node = pool.tree.root
    row.priority = raw.get("prio")
    row.stamp = raw.get("t", 0)
    row.counted_at_entry = raw.get("apt", 0)
    return row


def make_row(
    number: int,
    *,
    prompt_tokens: int = 1,
    outputs: int = 0,
    max_new: int = 1,
    session: str = "",
    ignore_eos: bool = False,
) -> Row:
    """Return a request of which only what rules look at is known."""
    request = Request(
        id=number,
        arrival_ns=0,
        prompt=(),
        prompt_tokens=prompt_tokens,
        output_tokens=max(1, max_new),
        max_tokens=max(1, max_new),
        output_stream=0,
        session=session,
        ignore_eos=ignore_eos,
    )
    row = Row(request, number, max_new, None)
    row.outputs = outputs
    row.known = prompt_tokens + outputs
    return row


def _read_tokens(check: Checker, raw: Any, where: str) -> list[Segment]:
    """Read a sequence as segments of one stream of all tokens: streams may run into each other."""
    if not isinstance(raw, list):
        check.fail(where, f"expected a list of segments, got {raw!r}")
    return merge_segments(
        Segment(0, stream * _STREAM_TOKENS + start, length)
        for stream, start, length in read_prompt(check, raw, where)
    )
