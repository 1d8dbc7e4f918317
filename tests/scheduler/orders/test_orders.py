"""Each order on scripted queues: who is next, ties by arrival and id, who gives way."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from simserve.errors import InputError, UnknownNameError
from simserve.registry import lookup, names
from simserve.scheduler.orders.order import Order, OrderPlan, OrderSettings, Targets
from simserve.scheduler.orders.predictors import NoisyPredictor, RankedPredictor
from simserve.scheduler.orders.queue import OrderedQueue
from simserve.scheduler.sequence import Sequence
from simserve.workload.request import Request

SECOND = 10**9
WITH_TARGETS = OrderSettings(
    seed=5,
    targets=Targets(ttft_ns=2 * SECOND, tpot_ns=SECOND // 10),
    class_targets={"batch": Targets(e2el_ns=60 * SECOND), "none": Targets()},
)
OPTIONS: dict[str, dict[str, Any]] = {"slack": {"token_s": 0.02}}


def build(name: str, settings: OrderSettings = WITH_TARGETS, **options: Any) -> Order:
    return OrderPlan(name, settings, OPTIONS.get(name, {}) | options).build()


def sequence(
    request_id: int,
    *,
    prompt: int = 10,
    outputs: int = 20,
    order: float | None = None,
    at_s: float = 0.0,
    **labels: Any,
) -> Sequence:
    request = Request(request_id, 0, (), prompt, outputs, outputs, request_id, **labels)
    made = Sequence(request, request_id if order is None else order, 10**6)
    made.arrived_ns = round(at_s * SECOND)
    return made


def drain(order: Order, sequences: Iterable[Sequence]) -> list[int]:
    """The ids in the order in which a queue gives the sequences out."""
    queue = OrderedQueue(order)
    for each in sequences:
        queue.push(each)
    listed = [each.id for each in queue]
    served = [queue.pop_head().id for _ in range(len(queue))]
    assert sorted(listed) == sorted(served)
    assert not queue
    return served


# -- who is next ---------------------------------------------------------------------------------------------


def test_first_and_last_come() -> None:
    waiting = [sequence(0, order=2), sequence(1, order=1), sequence(2, order=3)]
    assert drain(build("fcfs"), waiting) == [1, 0, 2]
    assert drain(build("lifo"), waiting) == [2, 0, 1]


def test_a_preempted_sequence_keeps_its_arrival() -> None:
    queue = OrderedQueue(build("fcfs"))
    for number in range(3):
        queue.push(sequence(number))
    first = queue.pop_head()
    queue.push_back(first)
    assert [queue.pop_head().id for _ in range(3)] == [0, 1, 2]


def test_the_smallest_priority_is_next() -> None:
    waiting = [sequence(0, priority=1), sequence(1, priority=-1), sequence(2, priority=1), sequence(3)]
    assert drain(build("priority"), waiting) == [1, 3, 0, 2]


def test_random_is_a_draw_of_the_request_not_of_when_it_is_asked() -> None:
    ids = list(range(50))
    there = drain(build("random"), [sequence(number) for number in ids])
    back = drain(build("random"), [sequence(number) for number in reversed(ids)])
    assert there == back
    assert there != ids
    assert drain(build("random", OrderSettings(seed=6)), [sequence(number) for number in ids]) != there


def test_the_shortest_output_is_next_whatever_its_prompt() -> None:
    waiting = [sequence(0, outputs=30), sequence(1, outputs=5, prompt=900), sequence(2, outputs=7)]
    assert drain(build("sjf"), waiting) == [1, 2, 0]


def test_shortest_first_goes_by_the_prediction() -> None:
    predictor = NoisyPredictor(5, sigma=2.0)
    waiting = [sequence(number, outputs=10 + number) for number in range(40)]
    served = drain(build("sjf", OrderSettings(5, predictor)), waiting)
    assert served == sorted(range(40), key=lambda number: predictor.predict(waiting[number].request))
    assert served != list(range(40))


def test_the_shortest_remaining_is_next_and_takes_the_seat_of_a_longer_one() -> None:
    order = build("srpt")
    long, short, half = sequence(0, outputs=30), sequence(1, outputs=12), sequence(2, outputs=40)
    half.outputs = 35
    for each in (long, short, half):
        order.arrived(each)
    assert [order.key(each) for each in (long, short, half)] == [30, 12, 5]
    assert order.victim([long, short, half]) is long
    assert order.displaced_by(short, [long, half]) is long
    assert order.displaced_by(short, [half]) is None
    assert order.displaced_by(short, []) is None


def test_one_that_outlives_its_prediction_is_about_to_end() -> None:
    order = build("srpt", OrderSettings(5, NoisyPredictor(5, sigma=0.5)))
    late = next(
        s for s in (sequence(n) for n in range(99)) if order.settings.predictor.predict(s.request) < 15
    )
    order.arrived(late)
    late.outputs = 18
    assert order.key(late) == 0


def test_a_ranking_orders_by_rank_however_much_is_done() -> None:
    order = build("srpt", OrderSettings(5, RankedPredictor(5, kendall_tau=1.0)))
    long, short = sequence(0, outputs=30), sequence(1, outputs=12)
    long.outputs = 29
    order.arrived(long)
    order.arrived(short)
    assert order.key(short) < order.key(long)


def test_the_earliest_deadline_is_next() -> None:
    waiting = [
        sequence(0, at_s=3.0),  # first token due at 5 s
        sequence(1, at_s=1.0),  # at 3 s
        sequence(2, at_s=0.0, slo_class="batch"),  # all of it at 60 s
        sequence(3, at_s=0.0, slo_class="none"),  # never
    ]
    begun = sequence(4, at_s=0.0)
    begun.outputs = 12  # the next token at 0 + 2 + 12 x 0.1 s
    assert drain(build("edf"), [*waiting, begun]) == [1, 4, 0, 2, 3]


def test_the_least_slack_is_next() -> None:
    order = build("slack")
    short = sequence(0, outputs=10)  # due at 2 + 9 x 0.1 s, takes 10 x 0.02 s
    long = sequence(1, outputs=110)  # due at 2 + 109 x 0.1 s, takes 110 x 0.02 s
    batch = sequence(2, outputs=2900, slo_class="batch")  # due at 60 s, takes 58 s
    assert [order.key(each) / SECOND for each in (short, long, batch)] == pytest.approx([2.7, 10.7, 2.0])
    assert drain(order, [short, long, batch, sequence(3, slo_class="none")]) == [2, 0, 1, 3]


def test_levels_sink_by_quanta_that_double() -> None:
    order = build("mlfq", quantum_tokens=10, levels=3)
    one = sequence(0, outputs=500)
    order.arrived(one)
    levels = []
    for outputs in (0, 9, 10, 29, 30, 69, 70, 400):
        one.outputs = outputs
        levels.append(order.key(one))
    assert levels == [0, 0, 1, 1, 2, 2, 2, 2]


def test_a_newcomer_takes_the_seat_of_one_that_has_sunk() -> None:
    order = build("mlfq", quantum_tokens=10)
    queue = OrderedQueue(order)
    old, new = sequence(0, outputs=500), sequence(1)
    queue.push(old)
    assert queue.pop_head() is old
    queue.push(new)
    assert order.displaced_by(queue.head(), [old]) is None
    old.outputs = 10
    assert order.displaced_by(queue.head(), [old]) is old
    queue.push_back(old)
    assert [queue.pop_head().id, queue.pop_head().id] == [1, 0]


def test_one_that_waits_too_long_begins_anew() -> None:
    order = build("mlfq", quantum_tokens=10, promote_after_s=5)
    queue = OrderedQueue(order)
    sunk, fresh = sequence(0, outputs=500), sequence(1, at_s=7.0)
    queue.push(sunk)
    queue.pop_head()
    sunk.outputs = 30
    order.now_ns = 4 * SECOND
    queue.push_back(sunk)
    order.now_ns = 8 * SECOND
    queue.push(fresh)
    assert queue.head() is fresh
    order.now_ns = 9 * SECOND
    assert queue.head() is sunk, "it has waited for 5 s, and since longer than the fresh one"
    queue.pop_head()
    assert order.key(sunk) == 0
    sunk.outputs = 40
    assert order.key(sunk) == 1


# -- what holds for all ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names("order"))
def test_equal_requests_go_by_arrival_and_then_by_id(name: str) -> None:
    waiting = [sequence(number, order=7) for number in range(12)]
    random.Random(1).shuffle(waiting)
    if name == "random":
        assert sorted(drain(build(name), waiting)) == list(range(12))
    else:
        assert drain(build(name), waiting) == list(range(12))
    later = [sequence(number, order=-number) for number in range(12)]
    if name not in ("random", "lifo"):
        assert drain(build(name), later) == list(range(11, -1, -1))


@hypothesis_settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    operations=st.lists(st.tuples(st.sampled_from("aaatpds"), st.integers(0, 99)), max_size=60),
)
@pytest.mark.parametrize("name", names("order"))
def test_a_queue_gives_out_the_smallest_key_and_loses_nobody(
    name: str, seed: int, operations: list[tuple[str, int]]
) -> None:
    rng = random.Random(seed)
    order = build(name)
    queue = OrderedQueue(order)
    waiting: dict[int, Sequence] = {}
    running: list[Sequence] = []
    for step, (what, number) in enumerate(operations):
        order.now_ns = step * SECOND
        if what == "a":
            made = sequence(
                step, prompt=1 + number, outputs=1 + rng.randrange(200), order=step // 3, at_s=step,
                priority=number % 3, tenant="abc"[number % 3], slo_class=("", "batch", "none")[number % 3],
            )  # fmt: skip
            queue.push(made)
            waiting[step] = made
        elif what == "p" and waiting:
            head = queue.head()
            assert queue.pop_head() is head
            rest = [(order.key(each), order.place(each)) for each in waiting.values() if each is not head]
            if name not in ("vtc", "mlfq"):  # being admitted changes the keys of these
                assert all((order.key(head), order.place(head)) < each for each in rest)
            running.append(waiting.pop(head.id))
        elif what == "t" and waiting:
            chosen = waiting.pop(sorted(waiting)[number % len(waiting)])
            queue.take(chosen)
            running.append(chosen)
        elif what == "d" and waiting:
            chosen = waiting.pop(sorted(waiting)[number % len(waiting)])
            queue.discard(chosen)
            order.ended(chosen)
        elif running:
            chosen = running[number % len(running)]
            if what == "s":
                chosen.outputs += 1 + number
                order.served(chosen, 1 + number)
            else:
                victim = order.victim(running)
                running.remove(victim)
                victim.preemptions += 1
                queue.push_back(victim)
                waiting[victim.id] = victim
        assert len(queue) == len(waiting)
        assert sorted(each.id for each in queue) == sorted(waiting)
        if waiting:
            assert queue.head() is next(iter(queue))


@pytest.mark.parametrize("name", names("order"))
def test_every_order_refuses_an_option_that_it_does_not_know(name: str) -> None:
    with pytest.raises(UnknownNameError, match="nonsense"):
        build(name, nonsense=1)


@pytest.mark.parametrize(
    ("name", "settings", "options", "message"),
    [
        ("edf", OrderSettings(), {}, "needs targets"),
        ("edf", OrderSettings(targets=Targets(tpot_ns=5)), {}, "a TPOT alone sets no deadline"),
        ("slack", WITH_TARGETS, {"token_s": None}, "needs options.token_s"),
        ("slack", WITH_TARGETS, {"token_s": -1}, "expected a number above 0"),
        ("slack", OrderSettings(0, RankedPredictor(0, kendall_tau=0.5), Targets(5)), {}, "a ranking"),
        ("mlfq", OrderSettings(), {"levels": 2.5}, "a whole number"),
        ("vtc", OrderSettings(), {"output_weight": True}, "expected a number above 0"),
        ("stjf", OrderSettings(), {}, "did you mean 'sjf'"),
    ],
)
def test_what_cannot_work_is_refused(
    name: str, settings: OrderSettings, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        build(name, settings, **options)


def test_an_order_of_ones_own_is_one_method() -> None:
    class ShortestPrompt(Order):
        def key(self, sequence: Sequence) -> Any:
            return sequence.request.prompt_tokens

    waiting = [sequence(0, prompt=30), sequence(1, prompt=5), sequence(2, prompt=5)]
    assert drain(ShortestPrompt(), waiting) == [1, 2, 0]
    assert (
        lookup("order", "simserve.scheduler.orders.arrival:FirstComeFirstServed").key(Order, waiting[1]) == 1
    )
