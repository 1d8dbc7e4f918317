"""Orca's rules, counted by hand."""

from __future__ import annotations

from simserve.testing.script import Script


def test_requests_join_and_leave_between_iterations() -> None:
    script = Script("orca", max_num_seqs=2)
    first, second, third = script.add(10, 2), script.add(30, 4), script.add(5, 2)
    assert script.step() == {first: 10, second: 30}  # whole prompts, without a token budget
    assert script.step() == {first: 1, second: 1}
    assert script.finished == [first]
    assert script.step() == {second: 1, third: 5}  # beside the decodes: selective batching
    assert script.step() == {second: 1, third: 1}


def test_memory_is_reserved_for_the_longest_there_can_be() -> None:
    script = Script("orca", num_gpu_blocks=41)  # 160 tokens: two regions of 64
    for _ in range(3):
        script.add(4, 4)
    script.step()
    assert script.batch is not None
    assert (script.batch.running, script.batch.used_blocks) == (2, 32)


def test_a_request_may_reserve_its_own_length() -> None:
    script = Script("orca", num_gpu_blocks=41, reserve="max_tokens")
    for _ in range(3):
        script.add(4, 4)
    script.step()
    assert script.batch is not None
    assert (script.batch.running, script.batch.used_blocks) == (3, 6)


def test_first_come_first_served_even_if_a_later_one_would_fit() -> None:
    script = Script("orca", num_gpu_blocks=17, reserve="max_tokens")
    first, second, third = script.add(30, 10), script.add(30, 10), script.add(2, 2)
    assert script.step() == {first: 30}
    assert [sequence.id for sequence in script.scheduler.waiting] == [second, third]
