"""Sarathi-Serve's rules, counted by hand."""

from __future__ import annotations

from simserve.testing.script import Script


def test_decodes_first_then_chunks_under_way_then_new_prompts() -> None:
    script = Script("sarathi", max_num_batched_tokens=10)
    first = script.add(4, 8)
    second = script.add(20, 3)
    assert script.step() == {first: 4, second: 6}
    third = script.add(5, 2)
    # One token for the decoder, nine for the prompt under way; nothing is left for the third.
    assert script.step() == {first: 1, second: 9}
    assert script.step() == {first: 1, second: 5, third: 4}
    assert script.step() == {first: 1, second: 1, third: 1}
    assert script.step() == {first: 1, second: 1, third: 1}
    assert script.finished == [second, third]


def test_no_decode_ever_waits_for_a_prompt() -> None:
    script = Script("sarathi", max_num_batched_tokens=8, max_num_seqs=3)
    decoder = script.add(2, 30)
    script.step()
    for _ in range(4):
        script.add(30, 2)
    steps = script.run()
    assert all(decoder in ran for ran in steps[:29])
    assert all(sum(ran.values()) <= 8 for ran in steps)


def test_a_prompt_takes_all_its_blocks_when_it_is_admitted() -> None:
    script = Script("sarathi", max_num_batched_tokens=4, num_gpu_blocks=13)
    script.add(40, 2)
    script.step()
    assert script.batch is not None
    assert script.batch.used_blocks == 10
    other = script.add(9, 2)
    script.step()  # two blocks are free, it would need three
    assert [sequence.id for sequence in script.scheduler.waiting] == [other]


def test_the_last_admitted_gives_way_and_is_computed_again() -> None:
    script = Script("sarathi", num_gpu_blocks=10, max_num_batched_tokens=32)
    first, second = script.add(15, 9), script.add(14, 9)
    assert script.step() == {first: 15, second: 14}
    assert script.step() == {first: 1, second: 1}  # eight blocks hold 16 tokens of each, one is free
    # The first takes the ninth block, and the second finds none, though it needs none: it gives way. Its
    # prompt and the two outputs that it had are computed again, at once, since its blocks are enough.
    assert script.step() == {first: 1, second: 16}
    assert script.preempted == [second]
    script.run()
    assert script.finished == [first, second]
    assert script.scheduler.sequences == {}
