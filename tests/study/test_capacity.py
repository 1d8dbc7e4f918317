"""The highest rate that holds: against a closed form, and what counts as holding."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from simserve.cli.entry import app
from simserve.errors import InputError, SimulationError
from simserve.scenario.loader import load_scenario
from simserve.study.capacity import Capacity, find_capacities, find_capacity
from simserve.study.executor import Died
from simserve.study.load import load_of
from simserve.study.probe import ProbeTask, natural_rate, probe_rate, stretch
from simserve.study.slo_terms import parse_slo
from tests.study.executors import LastFirst

# A single server whose every request takes 0.1 s: M/D/1.
SERVER = """
model: llama-3.1-8b
workload: {arrivals: {kind: poisson, rate_per_s: 3}, prompt_tokens: 16, output_tokens: 1, requests: 6000}
pools: {hardware: h100-sxm, engine: {max_num_seqs: 1, async_scheduling: false, enable_prefix_caching: false}}
cost: {kind: constant, base_s: 0.1}
"""


def test_a_server_with_a_known_queue() -> None:
    """M/D/1: the mean wait is rho s / (2 (1 - rho)), so 0.25 s with the service are reached at rho = 0.75."""
    scenario = load_scenario(SERVER)
    found = find_capacity(scenario, parse_slo("ttft_mean<=0.25s"), tolerance=0.02)
    assert found.rate_per_s == pytest.approx(7.5, rel=0.05)
    assert found.fails_at_per_s is not None
    assert 1 < found.fails_at_per_s / found.rate_per_s <= 1.02
    for probe in found.probes:
        assert probe.holds == (probe.steady and (probe.figures["mean_ttft_ms"] or 0.0) <= 250)


def test_a_queue_that_grows_does_not_hold_whatever_the_latency() -> None:
    scenario = load_scenario(SERVER)
    slo = parse_slo("ttft_p99<=1h")
    found = find_capacity(scenario, slo, tolerance=0.03)
    # The server does 10 requests a second; a queue that grows by less than 3 % cannot be told from chance.
    assert 9.4 < found.rate_per_s < 10.4
    assert not probe_rate(ProbeTask(scenario, slo, 10.8)).steady
    assert probe_rate(ProbeTask(scenario, slo, 9.0)).steady


def test_requests_that_fail_are_what_breaks() -> None:
    """A queue of one refuses whoever comes while it is full; no term of the objective sees them."""
    scenario = load_scenario(SERVER.replace("6000", "300"), ["pools.0.queue={limit: 1, policy: reject}"])
    slo = parse_slo("ttft_p99<=1h")
    probe = probe_rate(ProbeTask(scenario, slo, 30.0))
    assert probe.failed
    assert probe.broken(slo) == ["requests fail"]


def test_stretching_moves_arrivals_and_nothing_else() -> None:
    load = load_of(load_scenario(SERVER))
    assert natural_rate(load) == pytest.approx(3, rel=0.02)
    slower = stretch(load, 2.0)
    assert natural_rate(slower) == pytest.approx(natural_rate(load) / 2, rel=1e-6)
    assert np.array_equal(slower.prompt_tokens, load.prompt_tokens)


def test_think_times_stay() -> None:
    scenario = load_scenario("multi-turn")
    load = load_of(scenario)
    assert load.gap_ns is not None
    assert np.array_equal(stretch(load, 3.0).gap_ns, load.gap_ns)


def test_sessions_offer_no_more_than_their_answers_allow(tmp_path: Path) -> None:
    """Thirty sessions of four turns, 10 s apart: however soon they come, they send few requests a second."""
    talk = "sessions: {turns: 4, think_time_s: 10, think_time_cv: 0}"
    text = SERVER.replace("requests: 6000", f"requests: 120, {talk}").replace("base_s: 0.1", "base_s: 0.01")
    slo = parse_slo("ttft_p90<=1s")
    (found,) = find_capacities([load_scenario(text)], slo, tolerance=0.1)
    held, failing = found.held, found.failing
    assert held is not None
    assert failing is not None
    assert held.offered_per_s > 0.9 * held.rate_per_s
    # One turn of four comes at once, the others after 10 s or more.
    assert found.rate_per_s < 4 * 30 / 10
    assert failing.holds
    assert failing.held_back
    assert failing.verdict == "is not offered"
    assert "more sessions (workload.requests) can offer more" in failing.unoffered
    file = tmp_path / "s.yaml"
    file.write_text(text)
    shown = CliRunner().invoke(app, ["capacity", str(file), "--slo", "ttft_p90<=1s", "--tolerance", "0.1"])
    assert "requests/s, at least\nlimited by the requests: its sessions send " in shown.stdout


def test_two_requests_are_no_rate() -> None:
    """Both arrive before the first is answered: more a second are the same run."""
    found = find_capacity(load_scenario(SERVER.replace("6000", "2")), parse_slo("ttft_p90<=1s"))
    assert found.failing is not None
    assert found.failing.verdict == "holds, all at once"
    assert found.fails_at_per_s is not None
    assert found.fails_at_per_s < 20


def test_no_rate_holds_an_impossible_objective() -> None:
    scenario = load_scenario(SERVER.replace("6000", "200"))
    found = find_capacity(scenario, parse_slo("ttft_mean<=50ms"))
    assert found.rate_per_s == 0.0
    assert not any(probe.holds for probe in found.probes)


def test_a_closed_loop_has_no_rate() -> None:
    scenario = load_scenario("closed-loop")
    with pytest.raises(InputError, match="no arrival times to stretch"):
        natural_rate(load_of(scenario))


def test_the_same_is_found_by_the_same_probes_however_many_run_at_once() -> None:
    """Two seeds side by side, five probes under way, the youngest of them answered first."""
    scenarios = [load_scenario(SERVER.replace("6000", "300"), [f"seed={seed}"]) for seed in (0, 1)]
    slo = parse_slo("ttft_mean<=0.25s")
    alone: list[tuple[int, float]] = []
    found = find_capacities(scenarios, slo, tried=lambda number, p: alone.append((number, p.rate_per_s)))
    told: list[tuple[int, float]] = []
    executor = LastFirst(5)
    again = find_capacities(scenarios, slo, executor, tried=lambda n, p: told.append((n, p.rate_per_s)))
    assert again == found
    assert told == alone
    assert executor.most_under_way == 5
    assert found[0].rate_per_s != found[1].rate_per_s


def test_a_search_that_is_stopped_tells_what_it_knows() -> None:
    found = find_capacity_stopped(after=4)
    assert found.stopped
    assert len(found.probes) == 4
    held = [probe.rate_per_s for probe in found.probes if probe.holds]
    failed = [probe.rate_per_s for probe in found.probes if not probe.holds]
    assert (found.rate_per_s, found.fails_at_per_s) == (max(held), min(failed))


def test_arrivals_that_are_too_short_are_told() -> None:
    """0.1 s a request: ten of them arrive in ten times that at 5 a second, in less than four times at 30."""
    scenario, slo = load_scenario(SERVER.replace("6000", "10")), parse_slo("ttft_mean<=1h")
    told = probe_rate(ProbeTask(scenario, slo, 30.0)).doubt
    assert told.startswith("at 30/s the 10 requests arrive within 0.")
    assert "too short" not in probe_rate(ProbeTask(scenario, slo, 5.0)).doubt


def test_what_cannot_be_simulated_is_told() -> None:
    with pytest.raises(InputError, match="fit"):
        find_capacity(load_scenario(SERVER, ["model=llama-3.1-405b"]), parse_slo("ttft_mean<=0.25s"))

    def die(call: object, feed: Callable[[], object]) -> Iterator[tuple[object, Died]]:
        yield feed(), Died("its process died")

    executor = LastFirst(1)
    executor.run = die  # type: ignore[method-assign, assignment]
    with pytest.raises(SimulationError, match="its process died"):
        find_capacities([load_scenario(SERVER)], parse_slo("ttft_mean<=0.25s"), executor)


def test_a_policy_that_raises_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    head = "from simserve.cluster.routers import RoundRobin\n\nclass Bad(RoundRobin):\n"
    for name, act in (("raising", "raise KeyError(3)"), ("leaving", "raise SystemExit(2)")):
        (tmp_path / f"router_{name}.py").write_text(f"{head}    def choose(self, *_):\n        {act}\n")
        scenario = load_scenario(SERVER, [f"router.policy=router_{name}:Bad"])
        probe = probe_rate(ProbeTask(scenario, parse_slo("ttft_mean<=0.25s"), 1.0))
        assert f"router_{name}.py:5)" in probe.error
        assert not probe.bad_input


def find_capacity_stopped(after: int) -> Capacity:
    (found,) = find_capacities(
        [load_scenario(SERVER.replace("6000", "300"))], parse_slo("ttft_mean<=0.25s"), LastFirst(1, after)
    )
    return found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected terms such as"),
        ("ttft_p91<=1s", "did you mean 'ttft_p9"),
        ("ttft_p90", "is no term"),
        ("ttft_p90>=1s", "a latency to be kept"),
        ("slo_attainment<=0.9", "a share to be reached"),
        ("slo_attainment>=90", "a share from 0 to 1"),
        ("ttft_p90<=1 apple", "apple"),
        ("ttft_p90<=500", "500 of what. Write 500ms or 500s"),
        ("p90_ttft<=1s", "did you mean 'ttft_p90'"),
    ],
)
def test_objectives_that_are_none(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_slo(text)


def test_objectives_are_read_in_the_summarys_units() -> None:
    one, two, three = parse_slo("ttft_p50 <= 1.5s, tpot_p99<50ms,slo_attainment>=95%")
    named = parse_slo("median_ttft_ms<=1500, p99_tpot_ms<=0.05s")
    assert [(term.key, term.bound) for term in named] == [("median_ttft_ms", 1500.0), ("p99_tpot_ms", 50.0)]
    assert (one.key, one.bound, one.at_most) == ("median_ttft_ms", 1500.0, True)
    assert (two.key, two.bound) == ("p99_tpot_ms", 50.0)
    assert three.holds({"slo_attainment": 0.96})
    assert not three.holds({"slo_attainment": None})


def test_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(SERVER.replace("6000", "1500"))
    command = ["capacity", str(file), "--slo", "ttft_mean<=0.25s", "--tolerance", "0.05"]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0, shown.output
    assert "s.yaml holds" in shown.stdout
    assert "limited by: ttft_mean<=0.25s at " in shown.stdout
    both = json.loads(CliRunner().invoke(app, [*command, "--seeds", "2", "--json"]).stdout)
    assert len(both["searches"]) == 2
    assert both["half_width_per_s"] > 0
    assert both["rate_per_s"] == pytest.approx(7.5, rel=0.15)
    wrong = CliRunner().invoke(app, ["capacity", str(file), "--slo", "slo_attainment>=0.9"])
    assert "needs the scenario's slo section" in str(wrong.exception)
