"""What every engine kind of the base keeps to; each check takes the journal of a drive."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import memory_kind_checks
from kind_loads import CHUNKED, STEP_NS, Decision, Journal, KindLoad, drive_kind

from simserve.scheduler.sequence import Sequence


def check_ends(journal: Journal) -> None:
    """Nobody is lost or computed twice, every block comes back, everyone gets the outputs asked for."""
    load, scheduler, result = journal.load, journal.scheduler, journal.result
    asked = sorted(request.id for requests in load.arrivals.values() for request in requests)
    assert sorted(result.finished + result.aborted) == asked
    assert scheduler.pool.num_free == load.config.num_gpu_blocks - 1
    assert not scheduler.running
    assert len(scheduler.waiting) == 0
    computed: Counter[int] = Counter()
    for decision in journal.decisions:
        computed.update(decision.ran or {})
    for request_id in result.finished:
        sequence = journal.sequences[request_id]
        assert sequence.outputs == sequence.limit
        if not sequence.preemptions:
            wanted = sequence.request.prompt_tokens - sequence.cached_tokens + sequence.outputs - 1
            assert computed[request_id] == wanted, request_id


def check_arrival_order(journal: Journal) -> None:
    """First seats are given in order of arrival, also among those that arrive together."""
    load = journal.load
    order = [request.id for at in sorted(load.arrivals) for request in load.arrivals[at]]
    places = [order.index(each) for decision in journal.decisions for each in decision.admitted]
    assert places == sorted(places)
    assert len(set(places)) == len(places)


def check_victims(journal: Journal) -> None:
    """Whoever loses a seat was admitted after all who keep theirs."""
    if journal.load.config.pipeline_parallel_size > 1:
        return  # those in flight keep their seats whenever they came
    before: list[int] = []
    for decision in journal.decisions:
        kept = [each for each in before if each in decision.running and each not in decision.preempted]
        lost = [each for each in decision.preempted if each in before]
        if lost and kept:
            first_lost = min(before.index(each) for each in lost)
            assert first_lost > max(before.index(each) for each in kept), decision
        before = decision.running


def check_nobody_is_preempted(journal: Journal) -> None:
    """Memory was reserved, so that no seat is ever lost."""
    assert not [decision for decision in journal.decisions if decision.preempted]


def check_batches_stay_together(journal: Journal) -> None:
    """Requests that began together return together, and nobody joins a batch that runs."""
    ends: dict[int, set[int]] = {}
    for request_id in journal.result.finished:
        sequence = journal.sequences[request_id]
        ends.setdefault(sequence.first_step, set()).add(sequence.finish_step)
        assert sequence.first_token_step == sequence.finish_step
    assert all(len(steps) == 1 for steps in ends.values())
    begun = sorted((first, steps.pop()) for first, steps in ends.items())
    for (_, end), (first, _) in pairwise(begun):
        assert first > end


def check_work_goes_on(kind: str, journal: Journal) -> None:
    """No step is empty, and nobody waits, while there is a seat, a budget and memory for the next one."""
    load, config = journal.load, journal.load.config
    if config.pipeline_parallel_size > 1 or config.enable_prefix_caching:
        return  # who is in flight, or cached, would have to be known
    for decision in journal.decisions:
        if decision.ran is None:
            assert not decision.running
        head = decision.head
        if head is None or len(decision.running) >= config.max_num_seqs or decision.preempted:
            continue
        assert not _could_join(kind, load, decision, head), (decision, head)


def _could_join(kind: str, load: KindLoad, decision: Decision, head: Sequence) -> bool:
    """Whether the head of the queue could have been part of the step."""
    config = load.config
    usable = config.num_gpu_blocks - 1
    if kind in ("static", "dynamic"):
        size = config.max_num_seqs
        if kind == "dynamic":
            sizes = load.options["preferred_batch_size"] or size
            size = min(sizes) if isinstance(sizes, tuple) else sizes
        wait_s = load.options["max_wait_s" if kind == "static" else "max_queue_delay_s"]
        waited_ns = decision.iteration * STEP_NS - head.arrived_ns
        return not decision.running and (len(decision.waiting) >= size or waited_ns >= wait_s * 1e9)
    if kind == "orca":
        own = head.request.prompt_tokens + head.request.max_tokens
        tokens = own if load.options["reserve"] == "max_tokens" else config.max_model_len
        # Regions of one size leave no holes; with others a hole may be too small.
        whole = load.options["reserve"] == "max" or not decision.running
        return whole and -(-min(tokens, config.max_model_len) // config.block_size) <= decision.free
    if head.preemptions and kind == "vllm-v0" and load.options["preemption_mode"] == "swap":
        return False  # it may be in host memory, and then wants a block more
    blocks = -(-head.known // config.block_size) + int(0.01 * usable)
    if kind in CHUNKED:
        return blocks <= decision.free and decision.tokens < config.max_num_batched_tokens
    return (
        blocks <= decision.free
        and decision.tokens + head.known <= config.max_num_batched_tokens
        and any(tokens > 1 for tokens in (decision.ran or {}).values())
    )


def check_stretches(policy: type, journal: Journal) -> None:
    """Passing stretches at once leaves behind what stepping through them leaves."""
    passed = drive_kind(policy, journal.load, lambda longest: longest)
    assert passed.result.finished == journal.result.finished
    assert passed.result.iterations == journal.result.iterations
    for request_id, sequence in journal.sequences.items():
        assert _record(sequence) == _record(passed.sequences[request_id])


def _record(sequence: Sequence) -> tuple[object, ...]:
    steps = None if sequence.token_steps is None else sequence.token_steps.tolist()
    marks = (sequence.first_step, sequence.first_token_step, sequence.finish_step, sequence.outputs)
    return (*marks, sequence.preemptions, sequence.cached_tokens, steps, sequence.spans)


def _may_overtake(kind: str, load: KindLoad) -> bool:
    """Whether a kind lets somebody begin before an earlier one."""
    if kind == "tensorrt-llm":  # who waits for a hit, or for room for a whole block
        return load.config.enable_prefix_caching or load.config.enable_chunked_prefill
    return kind == "fastserve"


def check_all(kind: str, policy: type, load: KindLoad) -> Journal:
    """Drive a load and make every check that holds for the kind."""
    journal = drive_kind(policy, load)
    check_ends(journal)
    if not _may_overtake(kind, load):
        check_arrival_order(journal)
    if kind in memory_kind_checks.CHECKS:
        if load.config.pipeline_parallel_size == 1:
            memory_kind_checks.CHECKS[kind](journal)
    elif kind in ("sarathi", "vllm-v0"):
        check_work_goes_on(kind, journal)
        check_victims(journal)
    else:
        check_work_goes_on(kind, journal)
        check_nobody_is_preempted(journal)
    if kind in ("static", "dynamic"):
        check_batches_stay_together(journal)
    check_stretches(policy, journal)
    return journal
