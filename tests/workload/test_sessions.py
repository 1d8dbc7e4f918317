"""Generated sessions and prefixes: contexts grow by exactly what was said, and sharing is stated."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simserve.errors import InputError
from simserve.workload import rates
from simserve.workload.arrivals import ArrivalProcess
from simserve.workload.client import Client
from simserve.workload.generator import Generator, IndependentLengths, TraceLengths
from simserve.workload.ideal_hits import ideal_hit_tokens, shared_bound
from simserve.workload.lengths import Constant, LogNormal, Uniform
from simserve.workload.prefixes import PrefixGroups, zipf_weights
from simserve.workload.request import Request
from simserve.workload.sessions import Sessions
from simserve.workload.workload import Workload

LENGTHS = IndependentLengths(LogNormal(40, 1.0), LogNormal(20, 1.0))
POISSON = ArrivalProcess("poisson", rates.constant_rate(5.0))


def chain(request: Request) -> list[Request]:
    turns = [request]
    while turns[-1].follow_ups:
        (follower,) = turns[-1].follow_ups
        turns.append(follower)
    return turns


def tokens(request: Request, output: bool = False) -> list[tuple[int, int]]:
    found = [(part.stream, part.start + k) for part in request.prompt for k in range(part.length)]
    return found + [(request.output_stream, k) for k in range(request.output_tokens if output else 0)]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 120), st.booleans(), st.booleans(), st.integers(60, 600))
def test_turns_repeat_what_was_said(seed: int, count: int, prefixed: bool, capped: bool, cap: int) -> None:
    recipe = Generator(
        LENGTHS,
        POISSON,
        requests=count,
        prefixes=PrefixGroups(Uniform(1, 30), zipf_weights(3, 1.0)) if prefixed else None,
        sessions=Sessions(Uniform(1, 5), Uniform(1, 9), 2.0, 1.0, cap if capped else None),
    )
    load = recipe.generate(seed)
    requests = list(load.requests())
    everyone = [turn for request in requests for turn in chain(request)]
    assert sorted(request.id for request in everyone) == list(range(count))
    assert np.all(np.diff(load.arrival_ns) >= 0)
    assert len({request.session for request in requests}) == len(requests)
    for request in requests:
        turns = chain(request)
        assert all(turn.session == request.session for turn in turns)
        for before, after in pairwise(turns):
            said = tokens(before, output=True)
            assert tokens(after)[: len(said)] == said
            assert after.prompt_tokens > len(said)
            assert before.shared_tokens == len(said)
            assert not capped or after.prompt_tokens + after.output_tokens <= cap
    for request in everyone:
        assert len(tokens(request)) == request.prompt_tokens
        assert len(set(tokens(request, output=True))) == request.prompt_tokens + request.output_tokens
    _bounds_hold(everyone, load.shared_tokens.tolist() if load.shared_tokens is not None else [])
    assert load.prompts is not None
    bound = shared_bound(load.prompts, load.prompt_tokens, load.output_tokens, None)
    _bounds_hold(everyone, bound.tolist())


def _bounds_hold(everyone: list[Request], bounds: list[int]) -> None:
    """No token behind a request's bound stands in any other request."""
    owners: dict[tuple[int, int], int] = {}
    for request in everyone:
        for token in tokens(request, output=True):
            owners[token] = owners.get(token, 0) + 1
    for request in everyone:
        behind = tokens(request, output=True)[bounds[request.id] :]
        assert all(owners[token] == 1 for token in behind)


def test_prefix_groups_are_shared_by_popularity() -> None:
    recipe = Generator(
        IndependentLengths(Constant(100), Constant(10)),
        POISSON,
        requests=20_000,
        prefixes=PrefixGroups(Constant(512), zipf_weights(10, 1.0)),
    )
    load = recipe.generate(1)
    assert load.predecessor is None
    assert load.session is None
    requests = list(load.requests())
    assert {r.prompt_tokens for r in requests} == {612}
    assert {r.shared_tokens for r in requests} == {512}
    assert len({r.prompt[1].stream for r in requests}) == 20_000
    counts = sorted(
        np.unique([r.prompt[0].stream for r in requests], return_counts=True)[1].tolist(), reverse=True
    )
    weights = np.array(zipf_weights(10, 1.0))
    assert counts == pytest.approx(weights / weights.sum() * 20_000, rel=0.1)
    assert ideal_hit_tokens(load, 16) == (20_000 - 10) * 512
    assert ideal_hit_tokens(load, 100) == (20_000 - 10) * 500


def test_a_conversation_hits_all_that_was_said_before() -> None:
    recipe = Generator(
        IndependentLengths(Constant(64), Constant(32)), POISSON, requests=4, sessions=Sessions(Constant(4))
    )
    load = recipe.generate(0)
    assert load.prompt_tokens.tolist() == [64, 160, 256, 352]
    # Prompts alone hit the former prompt; with outputs also what was generated.
    assert ideal_hit_tokens(load, 16) == 64 + 160 + 256
    assert ideal_hit_tokens(load, 16, outputs=True) == 96 + 192 + 288


def test_think_times() -> None:
    sessions = Sessions(Constant(2), None, think_time_s=3.0, think_time_cv=0.5)
    think_s = sessions.think_ns(4, 50_000) / 1e9
    assert think_s.mean() == pytest.approx(3, rel=0.02)
    assert think_s.std() / think_s.mean() == pytest.approx(0.5, rel=0.03)
    assert set(Sessions(Constant(2), None, 3.0, 0.0).think_ns(4, 5).tolist()) == {3_000_000_000}


def test_more_requests_leave_the_first_sessions_as_they_are() -> None:
    recipe = Generator(LENGTHS, POISSON, requests=50, sessions=Sessions(Uniform(1, 4), None, 1.0))
    more = Generator(LENGTHS, POISSON, requests=500, sessions=Sessions(Uniform(1, 4), None, 1.0))
    first = [(r.arrival_ns, r.prompt_tokens) for r in recipe.generate(9).requests()]
    assert first[:10] == [(r.arrival_ns, r.prompt_tokens) for r in more.generate(9).requests()][:10]


def test_closed_loops_are_due_at_once() -> None:
    load = Generator(LENGTHS, None, requests=30, client=Client(max_concurrency=4)).generate(0)
    assert set(load.arrival_ns.tolist()) == {0}
    assert load.client.max_concurrency == 4
    with pytest.raises(InputError, match="closed loop needs a number of requests"):
        Generator(LENGTHS, None).generate(0)


def test_a_duration_instead_of_a_number() -> None:
    load = Generator(LENGTHS, POISSON, duration_s=1000.0).generate(2)
    assert load.count == pytest.approx(5000, abs=5 * np.sqrt(5000))
    assert load.arrival_ns[-1] < 1000e9
    with pytest.raises(InputError, match="no request arrives"):
        Generator(LENGTHS, ArrivalProcess("poisson", rates.constant_rate(1e-9)), duration_s=1.0).generate(0)


def test_pairs_of_a_trace_stay_pairs() -> None:
    trace = Workload("pairs", np.arange(3), np.array([10, 20, 0]), np.array([1, 2, 3]))
    load = Generator(TraceLengths(trace), POISSON, requests=300).generate(0)
    pairs = set(zip(load.prompt_tokens.tolist(), load.output_tokens.tolist(), strict=True))
    assert pairs == {(10, 1), (20, 2), (1, 3)}
