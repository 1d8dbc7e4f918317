"""Static and dynamic batching, counted by hand."""

from __future__ import annotations

import pytest

from simserve.errors import InputError
from simserve.testing.script import Script


def test_a_batch_waits_until_it_is_full() -> None:
    script = Script("static", max_num_seqs=2, max_wait_s=1.0)
    first = script.add(6, 2)
    assert script.step(now_s=0.5) == {}
    assert script.scheduler.wake_at(500_000_000) == 1_000_000_000
    second = script.add(4, 3, at_s=0.6)
    assert script.step(now_s=0.6) == {first: 6, second: 4}


def test_or_until_the_oldest_has_waited_long_enough() -> None:
    script = Script("static", max_num_seqs=2, max_wait_s=1.0)
    first = script.add(6, 2)
    assert script.step(now_s=0.999) == {}
    assert script.step(now_s=1.0) == {first: 6}
    assert script.scheduler.wake_at(1_000_000_000) is None


def test_padding_and_idle_seats_are_computed_and_counted() -> None:
    script = Script("static", max_num_seqs=2)
    script.add(6, 1)
    script.add(4, 3)
    script.step()
    batch = script.batch
    assert batch is not None
    assert [(chunk.tokens, chunk.history) for chunk in batch.chunks] == [(6, 0), (6, 0)]
    assert (batch.prefill_tokens, batch.samples, script.scheduler.padding_tokens) == (12, 2, 2)
    late = script.add(3, 1)
    script.step()
    batch = script.batch
    assert batch is not None
    assert (batch.decodes, batch.context_tokens, batch.running, batch.waiting) == (2, 14, 2, 1)
    assert script.scheduler.padding_tokens == 3
    assert script.finished == []  # nobody has a token before everybody has all
    script.step()
    assert script.finished == [0, 1]
    assert script.scheduler.padding_tokens == 4
    assert script.step(now_s=1.0) == {late: 3}


def test_longer_prompts_may_be_fed_token_by_token() -> None:
    """As FasterTransformer 4: the first step is as long as the shortest prompt."""
    script = Script("static", max_num_seqs=2, context_phase="shortest")
    short = script.add(4, 1)
    long = script.add(6, 2)
    sequence = script.scheduler.sequences[long]
    assert script.step() == {short: 4, long: 4}
    assert script.batch is not None
    assert [(chunk.tokens, chunk.history) for chunk in script.batch.chunks] == [(4, 0), (4, 0)]
    shapes = []
    for _ in range(3):
        assert script.step() == {long: 1}  # two prompt tokens, the second of which samples, and an output
        batch = script.batch
        shapes.append((batch.decodes, batch.context_tokens, batch.prefill_tokens))
    assert shapes == [(2, 10, 0), (2, 12, 0), (2, 14, 0)]
    assert script.scheduler.padding_tokens == 3  # the seat of the one that has ended
    assert script.finished == [short, long]
    assert (sequence.outputs, sequence.finish_step) == (2, 3)
    assert sequence.spans == [("prefill", 0, 2, 6), ("decode", 3, 3, 1)]


def test_a_batch_may_run_on_after_all_have_ended() -> None:
    script = Script("static", max_num_seqs=2, run_to="max_tokens")
    early = script.add(4, 2, max_tokens=6)
    late = script.add(4, 3, max_tokens=3)
    ran = [script.step() for _ in range(6)]
    assert ran == [{early: 4, late: 4}, {early: 1, late: 1}, {late: 1}, {}, {}, {}]
    assert script.scheduler.padding_tokens == 1 + 3 * 2
    assert script.finished == [early, late]


def test_a_context_phase_must_be_one_of_two() -> None:
    with pytest.raises(InputError, match="longest or shortest"):
        Script("dynamic", context_phase="middle")
    with pytest.raises(InputError, match="longest or max_tokens"):
        Script("static", run_to="prompt")


def test_tokens_come_with_the_end_of_the_batch() -> None:
    script = Script("static", max_num_seqs=2)
    script.add(6, 2)
    script.add(4, 5)
    sequence = script.scheduler.sequences[0]
    script.run()
    assert (sequence.first_token_step, sequence.finish_step, sequence.outputs) == (4, 4, 2)
    assert sequence.token_steps.tolist() == [4, 4]
    assert sequence.spans == [("prefill", 0, 0, 6), ("decode", 1, 1, 1)]


def test_a_batch_is_no_larger_than_memory_holds_padded() -> None:
    # 16 blocks of 4 tokens; each seat of the four would take 20 + 12 tokens, 8 blocks.
    script = Script("static", max_num_seqs=4, num_gpu_blocks=17)
    for prompt, output in ((20, 2), (2, 12), (2, 2), (2, 2)):
        script.add(prompt, output)
    script.step()
    assert script.batch is not None
    assert (script.batch.running, script.batch.used_blocks) == (2, 16)


def test_a_batch_goes_on_when_clients_give_up() -> None:
    script = Script("static", max_num_seqs=2)
    script.add(6, 2)
    longest = script.add(4, 5)
    script.step()
    script.abort(longest)
    steps = script.run()
    assert len(steps) == 1  # only the request that is left is told; its seat runs on
    assert script.batch is not None
    while script.scheduler.sequences:
        script.step()
    assert script.finished == [0]
    assert script.batch.step == 4


def test_a_preferred_size_goes_at_once_and_any_other_after_the_delay() -> None:
    script = Script("dynamic", max_num_seqs=4, preferred_batch_size=(2, 4), max_queue_delay_s=0.1)
    ids = [script.add(4, 1) for _ in range(3)]
    assert script.step(now_s=0.0) == {ids[0]: 4, ids[1]: 4}
    assert script.step(now_s=0.05) == {}
    assert script.step(now_s=0.1) == {ids[2]: 4}


def test_without_a_delay_whoever_is_there_goes() -> None:
    script = Script("dynamic", max_num_seqs=4)
    ids = [script.add(4, 1) for _ in range(3)]
    assert script.step() == dict.fromkeys(ids, 4)


@pytest.mark.parametrize("sizes", [0, 9, (2, 9), "many"])
def test_sizes_that_cannot_be_are_refused(sizes: object) -> None:
    with pytest.raises(InputError, match="preferred_batch_size"):
        Script("dynamic", preferred_batch_size=sizes)
