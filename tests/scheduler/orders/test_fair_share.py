"""The virtual token counter: level starts, charges, and the paper's bound between backlogged tenants."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from simserve.scheduler.orders.arrival import FirstComeFirstServed
from simserve.scheduler.orders.fair_share import VirtualTokenCounter
from simserve.scheduler.orders.order import Order
from simserve.scheduler.orders.queue import OrderedQueue
from simserve.scheduler.sequence import Sequence
from simserve.workload.request import Request


def sequence(request_id: int, tenant: str, prompt: int = 10, outputs: int = 20) -> Sequence:
    request = Request(request_id, 0, (), prompt, outputs, outputs, request_id, tenant=tenant)
    return Sequence(request, request_id, 10**6)


def test_the_tenant_with_the_least_service_is_next_and_its_requests_by_arrival() -> None:
    order = VirtualTokenCounter()
    queue = OrderedQueue(order)
    for number, tenant in enumerate("aaabbc"):
        queue.push(sequence(number, tenant))
    # Every admission counts 10: each tenant in turn, the earlier arrival first among equals.
    assert [queue.pop_head().id for _ in range(6)] == [0, 3, 5, 1, 4, 2]
    assert order.counters == {"a": 30, "b": 20, "c": 10}


def test_outputs_count_double_and_a_preempted_prompt_once() -> None:
    order = VirtualTokenCounter()
    queue = OrderedQueue(order)
    queue.push(sequence(0, "a"))
    first = queue.pop_head()
    order.served(first, 7)
    first.preemptions += 1
    queue.push_back(first)
    assert queue.pop_head() is first
    assert order.counters == {"a": 10 + 2 * 7}


def test_a_tenant_that_comes_back_starts_level_with_those_who_wait() -> None:
    order = VirtualTokenCounter()
    queue = OrderedQueue(order)
    for number in range(4):
        queue.push(sequence(number, "busy"))
    for _ in range(2):
        queue.pop_head()
    queue.push(sequence(9, "new"))
    assert order.counters == {"busy": 20, "new": 20}
    queue.push(sequence(10, "new"))
    assert order.counters["new"] == 20, "it waits already"


def test_with_an_empty_queue_a_tenant_starts_level_with_the_last_who_left_it() -> None:
    order = VirtualTokenCounter()
    queue = OrderedQueue(order)
    queue.push(sequence(0, "busy", prompt=50))
    queue.pop_head()
    queue.push(sequence(1, "new"))
    assert order.counters == {"busy": 50, "new": 50}
    queue.pop_head()
    queue.push(sequence(2, "busy"))
    assert order.counters["busy"] == 60


def test_a_tenant_whose_requests_are_cancelled_waits_no_more() -> None:
    order = VirtualTokenCounter()
    queue = OrderedQueue(order)
    gone = sequence(0, "gone")
    queue.push(sequence(1, "busy", prompt=70))
    queue.pop_head()
    queue.push(sequence(2, "busy"))
    queue.push(gone)
    order.counters["gone"] = 5
    queue.discard(gone)
    queue.push(sequence(3, "new"))
    assert order.counters["new"] == 70, "level with who waits, not with who has left"


def test_nobody_is_lowered() -> None:
    order = VirtualTokenCounter()
    queue = OrderedQueue(order)
    queue.push(sequence(0, "a", prompt=500))
    queue.pop_head()
    queue.push(sequence(1, "b", prompt=5))
    order.counters["b"] = 3
    queue.push(sequence(2, "a"))
    assert order.counters == {"a": 500, "b": 3}


def test_weights_are_options() -> None:
    order = VirtualTokenCounter(input_weight=3, output_weight=0.5)
    queue = OrderedQueue(order)
    queue.push(sequence(0, "a"))
    order.served(queue.pop_head(), 4)
    assert order.counters == {"a": 32}


SIZES = {"small": (5, 10), "large": (60, 80), "mixed": (30, 60)}
PAIRS = (("small", "large"), ("small", "mixed"), ("large", "mixed"))


class Backlog:
    """Three tenants that always have requests waiting, each with (longest prompt, longest output)."""

    def __init__(self, order: Order, seed: int) -> None:
        self.queue = OrderedQueue(order)
        self._rng = random.Random(seed)
        self._waiting: Counter[str] = Counter()
        self._number = 0
        self.fill()

    def fill(self) -> None:
        for tenant, (prompt, outputs) in SIZES.items():
            while self._waiting[tenant] < 3:
                lengths = self._rng.randint(1, prompt), self._rng.randint(1, outputs)
                self.queue.push(sequence(self._number, tenant, *lengths))
                self._waiting[tenant] += 1
                self._number += 1

    def pop(self) -> Sequence:
        admitted = self.queue.pop_head()
        self._waiting[admitted.request.tenant] -= 1
        self.fill()
        return admitted


def held_tokens(each: Sequence) -> int:
    return each.request.prompt_tokens + each.limit


def serve_backlogged(order: Order, seed: int, capacity: int = 400) -> tuple[float, float]:
    """Serve the backlog; return the largest gap in service of two tenants over any interval, and the bound.

    A running request holds its prompt and all of its outputs (Orca's reservation), so M, the tokens of a
    batch, is the capacity. Over all intervals the gap is the largest difference of gaps since the start.
    """
    backlog = Backlog(order, seed)
    service: Counter[str] = Counter()
    running: list[Sequence] = []
    gaps: dict[tuple[str, str], list[int]] = {pair: [0] for pair in PAIRS}
    for _ in range(1500):
        held = sum(held_tokens(each) for each in running)
        while held + held_tokens(backlog.queue.head()) <= capacity:
            admitted = backlog.pop()
            service[admitted.request.tenant] += admitted.request.prompt_tokens
            running.append(admitted)
            held += held_tokens(admitted)
        for each in running:
            each.outputs += 1
            order.served(each, 1)
            service[each.request.tenant] += 2
        running = [each for each in running if each.outputs < each.limit]
        for one, two in PAIRS:
            gaps[one, two].append(service[one] - service[two])
    return max(max(gap) - min(gap) for gap in gaps.values()), 2 * max(SIZES["large"][0], 2 * capacity)


@pytest.mark.parametrize("seed", range(4))
def test_backlogged_tenants_get_service_within_the_papers_bound(seed: int) -> None:
    gap, bound = serve_backlogged(VirtualTokenCounter(), seed)
    assert gap <= bound


def test_first_come_first_served_breaks_that_bound() -> None:
    # The bound means something: here the tenant with large requests gets ever more.
    gap, bound = serve_backlogged(FirstComeFirstServed(), 0)
    assert gap > 5 * bound
