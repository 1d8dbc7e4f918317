"""Orders inside an engine's scheduler, without a clock: with one seat the order is all there is."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from simserve.registry import lookup
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.orders.order import OrderPlan, OrderSettings, Targets
from simserve.testing.harness import drive
from simserve.workload.request import Request

KINDS = ("orca", "sarathi", "vllm-v0")


def make_requests(count: int, **of_each: Any) -> list[Request]:
    draw = random.Random(7)
    made = []
    for number in range(count):
        labels = {name: choose(number) for name, choose in of_each.items()}
        outputs = draw.randint(1, 40)
        made.append(Request(number, 0, (), draw.randint(1, 30), outputs, outputs, number, **labels))
    return made


def finish(kind: str, policy: str, arrivals: dict[int, list[Request]], seats: int = 1, **options: Any) -> Any:
    settings = OrderSettings(5, targets=Targets(ttft_ns=10**9))
    config = SchedulerConfig(
        num_gpu_blocks=200, block_size=4, max_num_seqs=seats, max_num_batched_tokens=256, max_model_len=128,
        enable_prefix_caching=False, order=OrderPlan(policy, settings, options),
    )  # fmt: skip
    return drive(lookup("engine", kind)(config), config, arrivals)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("fcfs", lambda r: r.id),
        ("lifo", lambda r: -r.id),
        ("sjf", lambda r: (r.output_tokens, r.id)),
        ("srpt", lambda r: (r.output_tokens, r.id)),
        ("priority", lambda r: (r.priority, r.id)),
    ],
)
def test_with_one_seat_requests_finish_in_the_order(kind: str, policy: str, expected: Any) -> None:
    requests = make_requests(25, priority=lambda number: number * 7 % 5)
    result = finish(kind, policy, {0: requests})
    assert result.finished == [each.id for each in sorted(requests, key=expected)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_short_newcomer_takes_the_seat_of_a_long_one(kind: str) -> None:
    long, short = Request(0, 0, (), 10, 90, 90, 0), Request(1, 0, (), 10, 5, 5, 1)
    assert finish(kind, "srpt", {0: [long], 10: [short]}).finished == [1, 0]
    assert finish(kind, "sjf", {0: [long], 10: [short]}).finished == [0, 1]
    assert finish(kind, "mlfq", {0: [long], 10: [short]}, quantum_tokens=8).finished == [1, 0]
    # Nearly done, the long one has less left than the short one.
    assert finish(kind, "srpt", {0: [long], 88: [short]}).finished == [0, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_shortest_first_lowers_the_mean_latency(kind: str) -> None:
    def mean_finish(policy: str) -> float:
        requests = make_requests(60)
        arrivals = {3 * each.id: [each] for each in requests}
        ends: dict[int, int] = {}
        result = finish(kind, policy, arrivals, seats=4)
        for iteration, batch in result.batches:
            for sequence in batch.sampling():
                ends[sequence.id] = iteration
        return sum(ends[each.id] - 3 * each.id for each in requests) / len(requests)

    fcfs, sjf, srpt = (mean_finish(policy) for policy in ("fcfs", "sjf", "srpt"))
    # Who takes seats pays for it with prompts that are computed again: that need not be better than sjf.
    assert sjf < 0.9 * fcfs
    assert srpt < 0.9 * fcfs


@pytest.mark.parametrize("kind", KINDS)
def test_the_counter_shares_seats_between_tenants_where_fcfs_does_not(kind: str) -> None:
    def first_half(policy: str) -> Counter[str]:
        # One tenant sends forty requests at once, the other two every now and then.
        requests = make_requests(60, tenant=lambda number: "bulk" if number < 40 else "chat")
        arrivals = {0: requests[:40]} | {4 * number: [each] for number, each in enumerate(requests[40:], 1)}
        finished = finish(kind, policy, arrivals, seats=2).finished
        return Counter(requests[each].tenant for each in finished[:30])

    assert first_half("fcfs")["chat"] == 0
    assert first_half("vtc")["chat"] >= 10


@pytest.mark.parametrize("kind", KINDS)
def test_under_memory_pressure_the_last_in_the_order_gives_way(kind: str) -> None:
    requests = [Request(number, 0, (), 8, 100, 100, number, priority=-number) for number in range(4)]
    config = SchedulerConfig(
        num_gpu_blocks=60, block_size=4, max_num_seqs=4, max_num_batched_tokens=256, max_model_len=128,
        enable_prefix_caching=False, order=OrderPlan("priority"),
    )  # fmt: skip
    options: dict[str, Any] = {"reserve": "grow"} if kind == "orca" else {}
    result = drive(lookup("engine", kind)(config, **options), config, {0: requests})
    # The smallest priority, which arrived last, ends first; with fcfs it would be the first victim.
    assert result.finished[0] == 3
    assert sorted(result.finished) == [0, 1, 2, 3]
