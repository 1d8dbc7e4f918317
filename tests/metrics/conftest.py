"""Records made by hand and by chance, for the tests of everything that is derived from a record."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable

import pytest

from simserve.metrics.record import COMPLETED, FAILED, UNFINISHED, RequestLog, StepLog

MakeRun = Callable[..., tuple[RequestLog, list[StepLog]]]


def add_stretch(log: StepLog, ends_ns: list[int], *, start_ns: int, **state: int) -> None:
    """Append a stretch whose steps end at `ends_ns`; state that is not given is 0."""
    log.first_step.append(len(log.end_ns))
    log.steps.append(len(ends_ns))
    log.start_ns.append(start_ns)
    log.end_ns.extend(ends_ns)
    for name in ("prefill_tokens", "decode_tokens", "running", "waiting", "used_blocks", "cached_blocks"):
        getattr(log, name).append(state.get(name, 0))


def add_request(log: RequestLog, **fields: object) -> None:
    """Append a request: completed, of one token, unless the fields say otherwise."""
    row: dict[str, object] = {
        "request_id": len(log.request_id),
        "session": "",
        "tenant": "",
        "slo_class": "",
        "arrival_ns": 0,
        "prompt_tokens": 1,
        "output_tokens": 1,
        "cached_tokens": 0,
        "instance": 0,
        "first_step": 0,
        "first_token_step": 0,
        "finish_step": 0,
        "end_ns": 0,
        "preemptions": 0,
        "status": COMPLETED,
        "reason": "length",
    }
    for name, value in {**row, **fields}.items():
        getattr(log, name).append(value)


def make_random_run(
    seed: int, *, instances: int = 3, steps: int = 60, requests: int = 80
) -> tuple[RequestLog, list[StepLog]]:
    """Return a run of random requests: some with gaps in their tokens, some failed, some unfinished."""
    draw = random.Random(seed)
    logs = [StepLog(instance, num_blocks=100) for instance in range(instances)]
    for log in logs:
        now = draw.randrange(1_000_000)
        while len(log.end_ns) < steps:
            start = now + draw.choice((0, draw.randrange(10_000_000)))
            ends: list[int] = []
            for _ in range(draw.randint(1, 5)):
                now = (ends[-1] if ends else start) + draw.randint(1_000_000, 30_000_000)
                ends.append(now)
            state = {"running": draw.randint(1, 9), "waiting": draw.randint(0, 2)}
            add_stretch(log, ends, start_ns=start, decode_tokens=draw.randint(1, 9), used_blocks=50, **state)
    record = RequestLog()
    for key in range(requests):
        _add_random_request(record, logs, key, draw)
    return record, logs


def _add_random_request(record: RequestLog, logs: list[StepLog], key: int, draw: random.Random) -> None:
    log = draw.choice(logs)
    first = draw.randrange(len(log.end_ns) - 10)
    token = first + draw.randint(0, 3)
    arrival = max(log.start_ns[0], log.end_ns[first] - draw.randint(0, 60_000_000))
    fate = draw.choice((COMPLETED, COMPLETED, COMPLETED, FAILED, UNFINISHED))
    fields: dict[str, object] = {"arrival_ns": arrival, "instance": log.instance, "first_step": first}
    fields |= {"prompt_tokens": draw.randint(1, 500), "cached_tokens": draw.randint(0, 1), "status": fate}
    last = draw.randint(token, len(log.end_ns) - 1)
    tokens = last - token + 1
    if fate == COMPLETED and draw.random() < 0.4 and tokens > 2:
        walked = sorted(draw.choices(range(token, last + 1), k=tokens))
        walked[0], walked[-1] = token, last
        record.token_steps[key] = array("q", walked)
    ended = log.end_ns[last] if fate == COMPLETED else (log.end_ns[last] + 5 if fate == FAILED else -1)
    fields |= {"first_token_step": token, "output_tokens": tokens, "end_ns": ended}
    fields |= {
        "finish_step": last if fate == COMPLETED else -1,
        "reason": "length" if fate == COMPLETED else "timeout",
    }
    add_request(record, request_id=key, **{k: v for k, v in fields.items()})


@pytest.fixture
def make_run() -> MakeRun:
    """A maker of random runs by seed."""
    return make_random_run
