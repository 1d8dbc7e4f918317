"""The rules of vLLM's first scheduler, counted by hand."""

from __future__ import annotations

from itertools import pairwise

import pytest

from simserve.errors import InputError
from simserve.scheduler.batch import FROM_HOST, TO_HOST
from simserve.scheduler.orders.order import OrderPlan
from simserve.testing.script import Script

TIGHT = {"num_gpu_blocks": 10, "max_num_batched_tokens": 64, "block_bytes": 10, "block_copies": 2}
GIB = 2**30


def test_prompts_run_alone_and_whole() -> None:
    script = Script("vllm-v0", max_num_batched_tokens=30)
    first, second = script.add(10, 4), script.add(12, 4)
    third = script.add(15, 2)
    assert script.step() == {first: 10, second: 12}  # 15 more would be above the budget
    assert script.step() == {third: 15}  # before any decode
    assert script.step() == {first: 1, second: 1, third: 1}


def test_prompts_may_run_beside_decodes() -> None:
    script = Script("vllm-v0", max_num_batched_tokens=17, mix_prompts=True)
    first, second = script.add(10, 4), script.add(6, 4)
    third, fourth = script.add(15, 2), script.add(3, 2)
    assert script.step() == {first: 10, second: 6}
    assert script.step() == {first: 1, second: 1, third: 15}  # two decodes and 15 tokens fill the budget
    assert script.step() == {first: 1, second: 1, third: 1, fourth: 3}


def test_who_has_lost_its_seat_does_not_come_back_in_the_same_step() -> None:
    script = Script("vllm-v0", mix_prompts=True, **TIGHT)
    first, second = script.add(15, 9), script.add(14, 9)
    script.step()
    script.step()
    assert script.step() == {first: 1}
    assert script.preempted == [second]


def test_admission_keeps_the_watermark_free() -> None:
    script = Script(
        "vllm-v0", num_gpu_blocks=201, block_size=1, max_num_batched_tokens=256, max_model_len=256
    )
    script.add(100, 2)
    late = script.add(99, 2)
    script.step()
    assert [sequence.id for sequence in script.scheduler.waiting] == [late]  # 2 of 200 blocks stay free


def test_a_victim_is_computed_again() -> None:
    script = Script("vllm-v0", **TIGHT)
    first, second = script.add(15, 9), script.add(14, 9)
    script.step()
    script.step()
    assert script.step() == {first: 1}
    assert script.preempted == [second]
    steps = script.run()
    assert next(ran[second] for ran in steps if second in ran) == 16


def test_a_victim_is_swapped_out_and_goes_on_where_it_was() -> None:
    script = Script("vllm-v0", preemption_mode="swap", swap_space=100 / GIB, **TIGHT)
    first, second = script.add(15, 9), script.add(14, 9)
    script.step()
    script.step()
    assert script.step() == {first: 1}
    assert script.batch is not None
    # Four blocks of ten bytes, two copies each.
    assert [each[:3] for each in script.batch.transfers] == [(TO_HOST, 40, 8)]
    assert script.scheduler.host_free == 6
    waiting = script.add(2, 2)
    ran: dict[int, int] = {}
    while second not in ran:
        ran = script.step()
        assert waiting not in ran, "nobody is admitted while somebody is in host memory"
    assert ran[second] == 1
    assert [each[:3] for each in script.batch.transfers] == [(FROM_HOST, 40, 8)]
    assert script.scheduler.host_free == 10
    script.run()
    assert script.finished == [first, second, waiting] or script.finished == [first, waiting, second]


def test_its_life_is_told_in_spans() -> None:
    script = Script("vllm-v0", preemption_mode="swap", swap_space=100 / GIB, **TIGHT)
    script.add(15, 9)
    script.add(14, 9)
    swapped = script.scheduler.sequences[1]
    script.run()
    kinds = [(kind, tokens) for kind, _, _, tokens in swapped.spans]
    assert kinds == [("prefill", 14), ("decode", 1), ("preempted", 0), ("decode", 7)]
    ends = [(first, last) for _, first, last, _ in swapped.spans]
    assert all(last + 1 == first for (_, last), (first, _) in pairwise(ends))


def test_without_room_on_the_host_a_victim_is_computed_again() -> None:
    script = Script("vllm-v0", preemption_mode="swap", swap_space=30 / GIB, **TIGHT)
    script.add(15, 9)
    second = script.add(14, 9)
    script.step()
    script.step()
    script.step()
    assert script.preempted == [second]
    assert script.batch is not None
    assert script.batch.transfers is None
    assert script.scheduler.host_free == 3


def test_a_cancelled_request_leaves_host_memory() -> None:
    script = Script("vllm-v0", preemption_mode="swap", swap_space=100 / GIB, **TIGHT)
    script.add(15, 9)
    second = script.add(14, 9)
    for _ in range(3):
        script.step()
    script.abort(second)
    assert script.scheduler.host_free == 10
    script.run()
    assert script.finished == [0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preemption_mode": "swap", "swap_space": 0}, "needs host memory"),
        ({"preemption_mode": "swop"}, "recompute or swap"),
        ({"swap_spce": 4}, "did you mean 'swap_space'"),
        ({"swap_space": "much"}, "swap_space"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Script("vllm-v0", block_bytes=10, **options)


def test_who_is_displaced_to_the_host_gives_its_seat_to_the_one_it_is_displaced_for() -> None:
    script = Script(
        "vllm-v0", preemption_mode="swap", swap_space=1000 / GIB, max_num_seqs=1, num_gpu_blocks=40,
        max_num_batched_tokens=64, block_bytes=10, order=OrderPlan("srpt"),
    )  # fmt: skip
    long = script.add(15, 30)
    assert script.step() == {long: 15}
    short = script.add(4, 2)
    assert script.step() == {short: 4}
    assert script.preempted == [long]
    assert [each.id for each in script.scheduler.waiting.swapped] == [long]
    ran = script.run()
    assert ran[0] == {short: 1}
    assert ran[1] == {long: 1}, "it goes on with what it had"
