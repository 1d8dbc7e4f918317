"""The bottleneck is named from what requests waited for, then from where the steps' time went."""

from __future__ import annotations

from array import array
from dataclasses import replace

import pytest

from simserve.metrics.bottleneck import TimeSplit, describe_bottleneck, waiting_shares
from simserve.metrics.pools import PoolInfo
from simserve.metrics.record import StepLog

SECOND = 1_000_000_000
POOL = PoolInfo("pool", (0,), max_num_seqs=4, max_num_batched_tokens=100)


def make_log(*stretches: tuple[int, int, int]) -> StepLog:
    """Return a log of one-second steps from (running, waiting, tokens)."""
    log = StepLog(0, 10, end_ns=array("q", [(n + 1) * SECOND for n in range(len(stretches))]))
    for number, (running, waiting, tokens) in enumerate(stretches):
        row = (number, 1, number * SECOND, 0, tokens, running, waiting, 5)
        names = ("first_step", "steps", "start_ns", "prefill_tokens", "decode_tokens", "running", "waiting")
        for name, value in zip((*names, "used_blocks"), row, strict=True):
            getattr(log, name).append(value)
    return log


def describe(log: StepLog, split: list[TimeSplit] | None = None, preemptions: int = 0) -> str:
    duration_s = len(log.end_ns) * 1.0
    return describe_bottleneck(
        [POOL], [log], split or [], duration_s=duration_s, preemptions=preemptions, requests=100
    )


def test_waiting_is_told_apart_by_elimination() -> None:
    log = make_log((4, 1, 4), (2, 1, 100), (2, 1, 50), (2, 0, 50))
    shares = waiting_shares([POOL], [log])
    assert (shares.seats, shares.budget, shares.blocks) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize(
    ("stretch", "kind"), [((4, 3, 4), "queueing"), ((2, 3, 2), "KV memory"), ((2, 3, 100), "compute")]
)
def test_kind_follows_from_the_state(stretch: tuple[int, int, int], kind: str) -> None:
    split = [TimeSplit(compute_s=2.0, bandwidth_s=1.0)]
    assert describe(make_log(stretch, (1, 0, 1)), split).startswith(f"{kind}:")


def test_blocks_are_what_was_waited_for_only_where_they_were_short() -> None:
    log = make_log((2, 3, 2), (2, 3, 2), (1, 0, 1))  # 5 of 10 blocks in use
    log.short_at_blocks = 5
    shares = waiting_shares([POOL], [log])
    assert (shares.blocks, shares.policy) == (pytest.approx(2 / 3), 0)
    log.short_at_blocks = 6
    shares = waiting_shares([POOL], [log])
    assert (shares.blocks, shares.policy) == (0, pytest.approx(2 / 3))
    assert describe(log).startswith("queueing: the policy held requests back in 67% of the busy time")


def test_a_batch_that_nobody_can_join_is_what_is_waited_for() -> None:
    pool = replace(POOL, joins_running=False)
    log = make_log((2, 3, 2), (2, 3, 2), (1, 0, 1))
    line = describe_bottleneck([pool], [log], [], duration_s=3.0, preemptions=0, requests=9)
    assert line.startswith("queueing: requests waited for a batch to end in 67% of the busy time")


@pytest.mark.parametrize("part", ["compute", "bandwidth", "communication", "overhead"])
def test_step_time_is_named_by_its_largest_part(part: str) -> None:
    parts = {f"{name}_s": 1.0 for name in ("compute", "bandwidth", "communication", "overhead")}
    parts[f"{part}_s"] = 2.0
    line = describe(make_log((1, 0, 1)), [TimeSplit(**parts)])
    assert line.startswith(f"{part}: it bounds 40% of the step time, instances are busy 100%")


def test_busy_is_not_full() -> None:
    split = [TimeSplit(bandwidth_s=1.0)]
    assert "busy 100% of the time with on average 1 request in a step of 4 seats, none waiting;" in describe(
        make_log((1, 0, 1)), split
    )
    few = make_log(*[(1, 0, 1)] * 19, (2, 2, 100))
    assert "with on average 1.05 requests in a step of 4 seats, 0.1 waiting, the token budget" in describe(
        few, split
    )
    assert "seats" not in describe(make_log((2, 0, 2)), split)
    boundless = replace(POOL, max_num_seqs=None)
    line = describe_bottleneck(
        [boundless], [make_log((1, 0, 1))], split, duration_s=1.0, preemptions=0, requests=1
    )
    assert "seats" not in line


def test_preemptions_mean_memory() -> None:
    assert describe(make_log((1, 0, 1)), preemptions=50).startswith("KV memory:")


def test_without_steps_or_split_it_says_so() -> None:
    assert describe(StepLog(0, 10)) == "none: no step was executed"
    assert "does not tell compute from bandwidth" in describe(make_log((1, 0, 1)))
