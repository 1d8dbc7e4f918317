"""LightLLM's rules, counted by hand, with a KV token in each block."""

from __future__ import annotations

import random
from typing import Any

import pytest

from simserve.errors import InputError
from simserve.scheduler.output_estimates import MaxTokens, MovingAverage, PastLengths
from simserve.scheduler.sequence import Sequence
from simserve.testing.script import Script
from simserve.workload.request import Request


def script(pool_tokens: int = 64, **options: Any) -> Script:
    defaults = {
        "num_gpu_blocks": pool_tokens + 1,
        "block_size": 1,
        "max_num_batched_tokens": 64,
        "length_estimate": "max_tokens",
        "router_max_wait_tokens": 3,
    }
    return Script("lightllm", **{**defaults, **options})


def sequence(number: int, prompt_tokens: int, max_tokens: int, outputs: int = 0) -> Sequence:
    request = Request(number, 0, (), prompt_tokens, max_tokens, max_tokens, 100 + number)
    made = Sequence(request, float(number), 1000)
    made.outputs, made.known, made.decoding = outputs, prompt_tokens + outputs, bool(outputs)
    return made


def test_prompts_run_alone_and_the_queue_is_looked_at_every_third_decode() -> None:
    run = script()
    first = run.add(4, 20)
    assert run.step() == {first: 4}
    second = run.add(5, 20)
    assert [run.step() for _ in range(3)] == [{first: 1}] * 3
    assert run.step() == {second: 5}
    third = run.add(2, 2)
    assert [run.step() for _ in range(3)] == [{first: 1, second: 1}] * 3
    assert run.step() == {third: 2}


def test_a_request_is_admitted_if_the_peak_fits_not_the_sum() -> None:
    # Both hold 10 + 9 tokens when the second ends, then the first alone grows to 10 + 29.
    run = script(45)
    first, second = run.add(10, 30), run.add(10, 10)
    assert run.step() == {first: 10, second: 10}
    # With the sum of the longest lengths, 60, they would not have been together.
    steps = run.run()
    assert run.finished == [second, first]
    assert len(steps) == 29


@pytest.mark.parametrize(("pool_tokens", "together"), [(38, False), (39, True)])
def test_the_peak_is_counted_to_the_token(pool_tokens: int, together: bool) -> None:
    # When the second ends, both hold 10 + 9 tokens; the real engine wants one more than that.
    run = script(pool_tokens)
    first, second = run.add(10, 20), run.add(10, 10)
    assert run.step() == ({first: 10, second: 10} if together else {first: 10})


def test_max_tokens_never_pauses_and_a_short_past_does() -> None:
    def count_paused(run: Script) -> int:
        for _ in range(4):
            run.add(8, 40)
        paused = 0
        while run.scheduler.sequences:
            run.step()
            paused += len(run.preempted)
        assert sorted(run.finished) == [0, 1, 2, 3]
        return paused

    assert count_paused(script(80)) == 0
    assert count_paused(script(80, length_estimate="history", router_max_new_token_len=2)) > 0


def test_the_latest_arrived_is_paused_and_comes_back_first() -> None:
    run = script(24, length_estimate="history", router_max_new_token_len=1)
    first, second, third = run.add(5, 15), run.add(5, 15), run.add(5, 15)
    ran = run.step()
    assert ran == {first: 5, second: 5, third: 5}
    while not run.preempted:
        run.step()
    assert run.preempted == [third]
    assert next(iter(run.scheduler.waiting)).id == third


def test_blocks_larger_than_a_token_are_reckoned_with() -> None:
    estimate = MaxTokens({})
    estimate.begin(0, [], is_busy=False)
    assert estimate.peak_with(sequence(0, 10, 20), 1) == 10 + 19
    assert estimate.peak_with(sequence(1, 10, 20), 4) == 2 * (10 + 19 + 3)


def test_the_peak_is_what_counting_token_by_token_gives() -> None:
    draw = random.Random(0)
    for _ in range(200):
        several = [
            sequence(number, draw.randint(1, 40), 60, outputs=draw.choice([0, draw.randint(1, 59)]))
            for number in range(draw.randint(1, 8))
        ]
        estimate = MaxTokens({})
        estimate.begin(0, several[:-1], is_busy=False)
        # From the step that gives the first token of those that begin: each holds its tokens so far, and in
        # the end all but its last one.
        held = [each.known + (not each.decoding) for each in several]
        last = [each.request.prompt_tokens + 60 - 1 for each in several]
        peak = 0
        while held:
            peak = max(peak, sum(held))
            left = [pair for pair in zip(held, last, strict=True) if pair[0] < pair[1]]
            held, last = [each + 1 for each, _ in left], [each for _, each in left]
        assert estimate.peak_with(several[-1], 1) == peak


def test_the_moving_average_follows_and_gives_way_when_busy() -> None:
    estimate = MovingAverage({"router_max_new_token_len": 1024})
    assert estimate.total_outputs(sequence(0, 10, 5000), 0) == 1024
    estimate.record(200)
    assert estimate.total_outputs(sequence(0, 10, 5000), 0) == 612
    assert estimate.total_outputs(sequence(0, 10, 5000, outputs=1000), 0) == 1100
    estimate.begin(0, [], is_busy=True)
    assert estimate.total_outputs(sequence(0, 10, 5000), 0) == 5000
    for _ in range(200):
        estimate.record(1)
    estimate.begin(0, [], is_busy=False)
    assert estimate.total_outputs(sequence(0, 10, 5000), 0) == 64, "short outputs count as 64 tokens"


def test_lengths_of_the_past_are_drawn_given_what_a_request_has_got() -> None:
    estimate = PastLengths({"router_max_new_token_len": 10})
    for length in range(101, 301):
        estimate.record(length)
    # The window holds the last 200: 101 to 300.
    new = [_draw(estimate, step, sequence(1, 5, 1000)) for step in range(400)]
    assert min(new) >= 101
    assert max(new) <= 300
    assert sum(new) / 400 == pytest.approx(200.5, abs=8)
    running = [_draw(estimate, step, sequence(1, 5, 320, outputs=250)) for step in range(400)]
    assert min(running) >= 250
    assert max(running) <= 320
    # Uniform over 250, 251, ..., 300, 320 as knots of a line.
    assert sum(running) / 400 == pytest.approx(275.2, abs=2)
    assert running == [_draw(estimate, step, sequence(1, 5, 320, outputs=250)) for step in range(400)]


def _draw(estimate: PastLengths, step: int, of: Sequence) -> int:
    estimate.begin(step, [], is_busy=False)
    return estimate.total_outputs(of, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length_estimate": "histry"}, "did you mean 'history'"),
        ({"router_max_wait_tokens": 0}, "router_max_wait_tokens"),
        ({"router_token_ratio": "much"}, "router_token_ratio"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        script(**options)
