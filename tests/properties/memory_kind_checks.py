"""What the kinds that plan ahead for memory keep to: tensorrt-llm, lightllm, fastserve."""

from __future__ import annotations

from collections.abc import Callable

from kind_loads import STEP_NS, Decision, Journal

from simserve.scheduler.sequence import Sequence


def _blocks(journal: Journal, tokens: int) -> int:
    return -(-tokens // journal.load.config.block_size)


def _arrival_places(journal: Journal) -> dict[int, int]:
    arrivals = journal.load.arrivals
    order = [request.id for at in sorted(arrivals) for request in arrivals[at]]
    return {request_id: place for place, request_id in enumerate(order)}


def check_nothing_idles(journal: Journal) -> None:
    """A step without work means that nobody is there."""
    for decision in journal.decisions:
        if decision.ran is None:
            assert not decision.running
            assert not decision.waiting


def check_latest_give_way(journal: Journal) -> None:
    """Whoever loses a seat arrived after all who keep theirs."""
    places = _arrival_places(journal)
    before: list[int] = []
    for decision in journal.decisions:
        lost = [places[each] for each in decision.preempted if each in before]
        kept = [places[each] for each in before if each in decision.running]
        if lost and kept:
            assert min(lost) > max(kept), decision
        before = decision.running


def check_nobody_gives_way(journal: Journal) -> None:
    """Memory was promised to the end."""
    assert not [decision for decision in journal.decisions if decision.preempted]


# -- tensorrt-llm ------------------------------------------------------------------------------------------


def check_tensorrt_llm(journal: Journal) -> None:
    """Order of arrival, whole blocks, everybody decodes, and no room is left that the next one could use."""
    config, options = journal.load.config, journal.load.options
    never_evicts = options["capacity_scheduler_policy"] == "GUARANTEED_NO_EVICT"
    check_nobody_gives_way(journal) if never_evicts else check_latest_give_way(journal)
    check_nothing_idles(journal)
    decoders: set[int] = set()
    for decision in journal.decisions:
        ran = decision.ran or {}
        if config.enable_chunked_prefill:
            assert decoders & set(decision.running) <= ran.keys(), "a decode waits"
        for request_id, tokens in ran.items():
            if request_id not in decision.decoding and tokens % config.block_size:
                raise AssertionError(f"request {request_id}: a chunk of {tokens} tokens that ends in a block")
        decoders = set(decision.decoding)
        assert not never_evicts or decision.promised <= decision.free, "blocks are promised twice"
        _check_room_is_used(journal, decision, never_evicts)


def _check_room_is_used(journal: Journal, decision: Decision, never_evicts: bool) -> None:
    config, head = journal.load.config, decision.head
    if head is None or config.enable_prefix_caching or decision.preempted:
        return
    if len(decision.running) >= config.max_num_seqs:
        return
    own = min(head.request.prompt_tokens + head.request.max_tokens, config.max_model_len)
    if never_evicts:
        fits = _blocks(journal, own) <= decision.free - decision.promised
    else:
        fits = _blocks(journal, decision.head_known) <= decision.free
    left = config.max_num_batched_tokens - decision.tokens
    least = config.block_size if config.enable_chunked_prefill else decision.head_known
    assert not (fits and least <= left), (decision, head)


# -- lightllm ----------------------------------------------------------------------------------------------


def check_lightllm(journal: Journal) -> None:
    """Prompts and decodes take turns, and the queue is looked at after so many decodes."""
    check_nothing_idles(journal)
    if journal.load.options["length_estimate"] == "max_tokens":
        check_nobody_gives_way(journal)
    else:
        check_latest_give_way(journal)
    patience = journal.load.options["router_max_wait_tokens"]
    waited = 0
    before: list[int] = []
    for decision in journal.decisions:
        ran = (decision.ran or {}).keys()
        still = [each for each in before if each in decision.running]
        if any(each not in before for each in ran):
            assert not still or waited >= patience, decision
            assert not [each for each in ran if each in before], "prompts run alone"
            waited = 0
        else:
            assert ran == set(decision.running), "all decode"
            # A look at the queue that admits nobody begins the count anew.
            waited = 1 if decision.preempted or waited >= patience else waited + 1
        before = decision.running


# -- fastserve ---------------------------------------------------------------------------------------------


class _Shadow:
    """A request's level, counted step by step."""

    def __init__(self, level: int, now_ns: int) -> None:
        self.level, self.joined_ns, self.served_ns, self.since_ns = level, now_ns, 0, now_ns


def check_fastserve(journal: Journal) -> None:
    """The highest ranks run; the lowest leave first for the host."""
    check_nothing_idles(journal)
    places = _arrival_places(journal)
    shadows: dict[int, _Shadow] = {}
    before: Decision | None = None
    for decision in journal.decisions:
        now_ns = decision.iteration * STEP_NS
        ids = [*decision.running, *decision.waiting]
        for request_id in ids:
            if request_id not in shadows:
                shadows[request_id] = _arrive(journal, journal.sequences[request_id])
        for request_id in before.running if before else ():
            _serve(journal, shadows[request_id], now_ns)
        ranks = {each: (shadows[each].level, shadows[each].joined_ns, places[each]) for each in ids}
        step = before.steps if before else 0
        if not step % journal.load.options["starvation_period_steps"]:
            for each in before.waiting if before else ():
                if each in ranks and now_ns - shadows[each].since_ns >= _patience_ns(journal):
                    shadows[each].level = shadows[each].joined_ns = shadows[each].served_ns = 0
                    ranks[each] = (0, 0, places[each])
        _check_ranks(decision, ranks, before)
        for request_id in ids:
            if request_id in decision.running or (before and request_id in before.running):
                shadows[request_id].since_ns = now_ns
        before = decision


def _arrive(journal: Journal, sequence: Sequence) -> _Shadow:
    prefill_ns = sequence.request.prompt_tokens * 1_000_000  # as the profile of the loads says
    quantum_ns = round(journal.load.options["base_quantum_s"] * 1e9)
    level = next(level for level in range(60) if quantum_ns * 2**level >= prefill_ns)
    return _Shadow(level, sequence.arrived_ns)


def _serve(journal: Journal, shadow: _Shadow, now_ns: int) -> None:
    shadow.served_ns += now_ns - shadow.since_ns
    shadow.since_ns = now_ns
    quantum_ns = round(journal.load.options["base_quantum_s"] * 1e9)
    while shadow.served_ns > quantum_ns * 2**shadow.level:
        shadow.served_ns -= quantum_ns * 2**shadow.level
        shadow.joined_ns = now_ns - shadow.served_ns
        shadow.level += 1


def _patience_ns(journal: Journal) -> float:
    return float(journal.load.options["starvation_threshold_s"] * 1e9)


def _check_ranks(decision: Decision, ranks: dict[int, tuple[int, int, int]], before: Decision | None) -> None:
    passed_over = (
        set(decision.unstarted) if decision.host_is_tight or (before and before.host_is_tight) else ()
    )
    lowest = max((ranks[each] for each in decision.running), default=None)
    if lowest is not None:
        for each in decision.waiting:
            assert ranks[each] > lowest or each in passed_over, (each, decision)
    moved = [each for each in decision.hosted if before is None or each not in before.hosted]
    if moved and decision.parked:
        stays = max(ranks[each] for each in decision.parked)
        assert min(ranks[each] for each in moved) > stays, "a higher rank went to the host"


CHECKS: dict[str, Callable[[Journal], None]] = {
    "tensorrt-llm": check_tensorrt_llm,
    "lightllm": check_lightllm,
    "fastserve": check_fastserve,
}
