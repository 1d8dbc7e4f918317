"""The field's claims: what is measured is measured right, and the cheap claims come out as published."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from simserve import load_scenario, simulate
from simserve.errors import InputError
from simserve.scenario.loader import scenario_names
from simserve.study.claims.case import Case, Found, run_case
from simserve.study.claims.claim import Claim, Row
from simserve.study.claims.figures import FIGURES, paged_shares, service_gap
from simserve.study.claims.page import format_claim, put_tables
from simserve.study.claims.runs import CLAIMS, run_claims
from simserve.study.claims.vtc import BOUND_TOKENS

PAGE = Path(__file__).resolve().parents[3] / "docs" / "background" / "claims.md"
# One seat and steps of 100 ms, one token each: an M/D/1 queue.
QUEUE = """
model: llama-3.1-8b
workload: {arrivals: 1, prompt_tokens: 64, output_tokens: 1, requests: 4000}
pools:
  hardware: h100-sxm
  engine: {max_num_seqs: 1, num_gpu_blocks_override: 1000, max_model_len: 2048, async_scheduling: false}
cost: {kind: constant, base_s: 0.1}
"""
# One request after the other, in blocks of 16.
ALONE = """
model: opt-13b
workload:
  arrivals: {{kind: constant, rate_per_s: 0.01}}
  prompt_tokens: {prompt}
  output_tokens: {output}
  requests: 3
pools:
  hardware: a100-sxm-40gb
  engine: {{kind: vllm-v0, dtype: float16, enable_prefix_caching: false}}
cost: {{kind: constant, base_s: 0.02}}
"""


def by_name(claim: str, **wanted: str) -> list[Case]:
    """Return cases of a claim by the names given."""
    cases = {case.name: case for case in CLAIMS[claim].cases}
    return [cases[name] for name in wanted.values()]


def test_the_highest_rate_of_a_queue_is_that_of_theory() -> None:
    """At load r the mean latency of M/D/1 is s + s r / (2 (1 - r)): 150 ms at a load of 0.5, 5 a second."""
    case = Case("queue", QUEUE, limits=(("mean s/token", 0.15),), rate_per_s=4.0)
    found = run_case(case)
    assert found.rate_per_s == pytest.approx(5.0, rel=0.1)
    assert found.figures["mean s/token"] == pytest.approx(0.15, rel=0.1)


def test_where_no_rate_holds_there_is_none() -> None:
    found = run_case(Case("queue", QUEUE, ("workload.requests=20",), limits=(("mean s/token", 0.01),)))
    assert found.rate_per_s == 0
    assert found.figures == {}


@pytest.mark.parametrize(("prompt", "output"), [(16, 2), (17, 40), (100, 1), (1, 33)])
def test_waste_of_pages_is_what_their_last_places_are(prompt: int, output: int) -> None:
    """After its i-th token a request holds prompt + i - 1 tokens, in whole blocks of 16."""
    held = [prompt + step for step in range(output)]
    places = [-(-tokens // 16) * 16 for tokens in held]
    result = simulate(load_scenario(ALONE.format(prompt=prompt, output=output)))
    of_given, of_all = paged_shares(result)
    assert of_given == pytest.approx(sum(held) / sum(places))
    assert of_all <= of_given * max(places) / (result.steps[0].num_blocks * 16) * 1.0001


def test_reserving_wastes_most_of_the_memory_and_pages_waste_little() -> None:
    """The claim of PagedAttention, in a tenth of its load."""
    shorter = "workload.duration_s=360"
    wanted = by_name("kv-memory", worst="Orca (Max)", best="vLLM")
    worst, best = (
        run_case(Case(case.name, case.scenario, (*case.overrides, shorter), case.figures)) for case in wanted
    )
    assert 0.1 < (worst.figures["KV used (one piece)"] or 0) < 0.4
    assert (best.figures["used of blocks given out"] or 0) > 0.96
    assert (best.figures["mean batch"] or 0) > 3 * (worst.figures["mean batch"] or 0)


def test_the_service_of_backlogged_clients_stays_within_vtcs_bound() -> None:
    gaps = {}
    for order in ("vtc", "fcfs"):
        overrides = ("workload.requests=700", f"pools.0.engine.order={order}")
        gaps[order], share = service_gap(simulate(load_scenario("claims/vtc", overrides)))
        assert share == pytest.approx({"vtc": 1.0, "fcfs": 1.9}[order], rel=0.15)
    assert gaps["vtc"] < BOUND_TOKENS < gaps["fcfs"]


def test_verdicts_say_which_way_a_figure_misses() -> None:
    verdicts = [Row("x", "2x to 3x", 2.0, 3.0, value).verdict for value in (1.5, 1.7, 3.7, 4.0, None)]
    assert verdicts == ["**miss**: less", "agrees", "agrees", "**miss**: more", "**miss**: none"]
    assert Row("x", "up to 3x", None, 3.0, 0.1).verdict == "agrees"


def test_a_table_shows_claims_cases_and_the_command() -> None:
    case = Case("slow", "claims/vtc")
    claim = Claim("some", (case,), lambda found: [Row("ratio", "2x", 2.0, 2.0, found["slow"].rate_per_s)])
    table = format_claim(claim, {"slow": Found({"hit rate": 0.98765, "preemptions": None}, 4.0)})
    assert "| ratio | 2x | 4.0x | **miss**: more |" in table
    assert "| slow | 4 | 0.988 |  |" in table
    assert "make claims CLAIMS=some" in table


def test_tables_go_between_their_markers_and_nowhere_else() -> None:
    page = "# T\n<!-- a: made by make claims -->\nold\n<!-- end of a -->\ntext\n"
    assert put_tables(page, {"a": "new"}) == page.replace("old", "new")
    with pytest.raises(InputError, match="no place for 'b'"):
        put_tables(page, {"b": "new"})


def test_the_page_has_every_claim_with_every_case() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for key, claim in CLAIMS.items():
        begin, end = text.index(f"<!-- {key}: made by"), text.index(f"<!-- end of {key} -->")
        missing = [case.name for case in claim.cases if f"| {case.name} |" not in text[begin:end]]
        assert not missing, "write it again: make claims"


def test_every_case_names_a_shipped_scenario_and_known_figures() -> None:
    for claim in CLAIMS.values():
        assert len({case.name for case in claim.cases}) == len(claim.cases)
        for case in claim.cases:
            assert case.scenario in scenario_names()
            assert {*case.figures, *(name for name, _ in case.limits)} <= FIGURES.keys()
            load_scenario(case.scenario, case.overrides)


@cache
def rows_of(key: str) -> dict[str, Row]:
    """Return the rows of a claim, run once for all tests."""
    claim = CLAIMS[key]
    return {row.what: row for row in claim.judge(run_claims([claim], 1)[key])}


# Those that agree, with room for other constants of the cost model.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("claim", "row", "least", "most"),
    [
        ("kv-memory", "Orca (Oracle): KV memory that holds tokens", 30, 48),
        ("kv-memory", "requests in a batch over Orca (Max)", 3.4, 5.6),
        ("swapping", "latency of swapping over recomputing, blocks of 1", 1.25, 20),
        ("swapping", "latency of swapping over recomputing, blocks of 16", 0.7, 1.4),
        ("radix-attention", "hit rate, MMLU, five shots", 75, 92),
        ("radix-attention", "throughput over vLLM, MMLU, five shots", 4, 9),
        ("fastserve", "ShareGPT: rate over vLLM at a mean of 0.3 s a token", 1.5, 40),
    ],
)
def test_claims_come_out_as_published(claim: str, row: str, least: float, most: float) -> None:
    assert least < (rows_of(claim)[row].simulated or 0) < most
