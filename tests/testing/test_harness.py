"""The harness catches schedulers that lose requests or blocks, overstep limits or stand still."""

from __future__ import annotations

import pytest

from simserve.errors import IntegrityError, SimulationError
from simserve.scheduler.config import SchedulerConfig
from simserve.scheduler.vllm import VllmScheduler
from simserve.testing.harness import drive
from simserve.workload.request import Request

CONFIG = SchedulerConfig(
    num_gpu_blocks=20, block_size=4, max_num_seqs=2, max_num_batched_tokens=16, max_model_len=64
)


def _request(number: int, prompt: int = 10, outputs: int = 5) -> Request:
    return Request(number, 0, (), prompt, outputs, outputs, 1000 + number)


def _arrivals() -> dict[int, list[Request]]:
    return {0: [_request(0), _request(1)], 3: [_request(2, prompt=30)]}


def test_a_sound_scheduler_passes() -> None:
    result = drive(VllmScheduler(CONFIG), CONFIG, _arrivals())
    assert result.finished == [0, 1, 2]
    assert result.aborted == []
    # Requests 0 and 1: 16 + 4 prefill tokens in iterations 0 and 1. Request 0 samples its first token in
    # iteration 0, request 1 in iteration 1; its fifth in iteration 5. Request 2 gets the seat of request 0
    # (free after iteration 4) in iteration 5: 15 of its tokens beside one of request 1, then 15; tokens 1 to
    # 5 in iterations 6 to 10.
    assert result.iterations == 11
    assert [batch.prefill_tokens for _, batch in result.batches[:7]] == [16, 4, 0, 0, 0, 15, 15]


def test_aborted_requests_are_counted_once() -> None:
    result = drive(VllmScheduler(CONFIG), CONFIG, _arrivals(), aborts={2: [0, 0, 7], 4: [2], 40: [1]})
    assert result.aborted == [0, 2]
    assert result.finished == [1]


def test_a_lost_request_is_caught() -> None:
    scheduler = VllmScheduler(CONFIG)

    def observe(iteration: int, batch: object) -> None:
        if iteration == 1:
            scheduler.abort(0)

    with pytest.raises(IntegrityError, match=r"requests \[0\] are lost"):
        drive(scheduler, CONFIG, _arrivals(), observer=observe)


def test_a_request_in_two_places_is_caught() -> None:
    scheduler = VllmScheduler(CONFIG)

    def observe(iteration: int, batch: object) -> None:
        if iteration == 1:
            scheduler.running.append(scheduler.running[0])

    with pytest.raises(IntegrityError):
        drive(scheduler, CONFIG, _arrivals(), observer=observe)


def test_a_lost_block_is_caught() -> None:
    scheduler = VllmScheduler(CONFIG)

    def observe(iteration: int, batch: object) -> None:
        if iteration == 1:
            scheduler.pool.take(1)

    with pytest.raises(IntegrityError):
        drive(scheduler, CONFIG, _arrivals(), observer=observe)


@pytest.mark.parametrize(
    ("limits", "message"),
    [({"max_num_batched_tokens": 15}, "16 tokens"), ({"max_num_seqs": 1}, "2 running requests")],
)
def test_a_step_over_a_limit_is_caught(limits: dict[str, int], message: str) -> None:
    told = SchedulerConfig(
        **{
            "num_gpu_blocks": 20,
            "block_size": 4,
            "max_num_seqs": 2,
            "max_num_batched_tokens": 16,
            "max_model_len": 64,
            **limits,
        }
    )
    with pytest.raises(IntegrityError, match=message):
        drive(VllmScheduler(CONFIG), told, _arrivals())


def test_a_scheduler_that_stands_still_is_caught() -> None:
    # 19 usable blocks of 4 tokens cannot hold a prompt of 80: with the full-prompt gate it waits for ever.
    never = {0: [_request(0, prompt=80)]}
    with pytest.raises(SimulationError, match="no progress"):
        drive(VllmScheduler(CONFIG), CONFIG, never, max_iterations=50)
