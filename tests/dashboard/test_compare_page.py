"""The page *Compare*: what differs in settings and figures, and pictures of bounded size."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import simserve

pytest.importorskip("streamlit")
Open, Words = Callable[..., Any], Callable[[Any], str]


def choose(app: Any, *names: str) -> Any:
    return app.multiselect(key="runs").set_value(list(names)).run()


def test_differences_are_shown(runs: Path, open_page: Open, words_of: Words) -> None:
    app = choose(open_page("compare"), "two", "one")
    assert not app.exception
    settings, figures = (table.value for table in app.dataframe)
    rows = settings.set_index("key")
    assert rows.loc["pools.0.replicas"].tolist() == ["2", "1"]
    assert rows.loc["pools.0.engine.max_num_seqs"].tolist() == ["256", "4"]
    assert "workload.trace.path" not in rows.index
    name = "request_throughput"
    found = figures.set_index("figure").loc[name]
    before, after = (simserve.RunFolder.read(runs / each).summary[name] for each in ("two", "one"))
    assert found.tolist() == [f"{before:.4g}", f"{after:.4g} ({(after / before - 1) * 100:+.1f} %)"]
    assert len(app.get("plotly_chart")) == 2
    for text in ("**two**", "bandwidth: it bounds", "**one**", "or more replicas |"):
        assert text in words_of(app), "what held each of them up"


def test_the_address_holds_the_choice(runs: Path, open_page: Open) -> None:
    app = choose(open_page("compare"), "one", "two")
    assert app.query_params["runs"] == ["one", "two"]
    again = open_page("compare", runs=["two", "one"])
    assert again.multiselect(key="runs").value == ["two", "one"]


def test_what_the_address_names_too_often_too_much_or_wrongly_is_told(
    made_runs: Path, empty: Path, open_page: Open, words_of: Words
) -> None:
    names = [f"run-{number}" for number in range(7)]
    for name in names:
        shutil.copytree(made_runs / "one", empty / name)
    app = open_page("compare", runs=["gone", names[0], *names])
    assert not app.exception
    assert app.multiselect(key="runs").value == names[:6]
    assert app.query_params["runs"] == names[:6]
    assert "no run 'gone'" in words_of(app)
    assert "the first 6" in words_of(app)
    choose(app, *names[:2])
    assert "gone" not in words_of(app)
    shutil.rmtree(empty / names[0])
    assert app.run().multiselect(key="runs").value == names[1:2]


def test_changes_are_judged_by_what_is_aimed_at() -> None:
    from dashboard.difference_table import difference_table, figure_table, judge_changes

    def run(**summary: Any) -> Any:
        return simserve.RunFolder(Path(), {"mean_itl_ms": 1.0, "mean_tpot_ms": 1.0, **summary}, {})

    first = run(p90_ttft_ms=100.0, output_throughput=10.0, slo_attainment=0.5, steps=7, preemptions=0)
    other = run(p90_ttft_ms=50.0, output_throughput=5.0, slo_attainment=0.496, steps=70, preemptions=3)
    runs = {"a": first, "b": other}
    judged = judge_changes(difference_table(runs)).set_index("figure")["b"]
    assert judged["p90_ttft_ms"] == 1
    assert judged["output_throughput"] == -1
    assert judged["slo_attainment"] == 0, "less than a hundredth"
    assert judged["preemptions"] == -1
    assert judged["steps"] == 0, "no aim of its own"
    shown = figure_table(runs).set_index("figure")["b"]
    assert shown["p90_ttft_ms"] == "50 (-50.0 %)"
    assert shown["slo_attainment"] == "49.6% (-0.4)"
    assert shown["preemptions"] == "3"
    assert shown["mean_itl_ms"] == "1 (=)"


def test_a_section_that_one_has_not_got_is_one_row() -> None:
    from dashboard.difference_table import setting_table

    engine = {"kind": "vllm", "seats": 4, "speculative": None}
    drafted = {"kind": "vllm", "seats": 8, "speculative": {"method": "ngram", "tokens": 3, "model": None}}
    scenarios = {
        "a": {"name": "a", "workload": {"limit": 1}, "pools": [{"engine": engine}]},
        "b": {"name": "b", "workload": {"limit": 2}, "pools": [{"engine": drafted}, {"engine": engine}]},
    }
    table = setting_table({name: simserve.RunFolder(Path(), {}, each) for name, each in scenarios.items()})
    assert table.to_numpy().tolist() == [
        ["pools.0.engine.seats", "4", "8"],
        ["pools.0.engine.speculative", "–", "method ngram, tokens 3"],
        ["pools.1", "–", "engine kind vllm, seats 4"],
        ["workload.limit", "1", "2"],
    ]


def test_fewer_than_two_say_what_to_do(
    empty: Path, runs: Path, open_page: Open, words_of: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "at least two" in words_of(open_page("compare"))
    monkeypatch.setenv("SIMSERVE_DASHBOARD_DIRS", str(empty))
    assert "page *Run*" in words_of(open_page("compare"))


@pytest.mark.parametrize(
    ("change", "shown"),
    [(0.0, "="), (-12.34, "-12.3"), (899.0, "+899.0"), (900.0, "x10"), (529351.9, "x5,295"), (None, "–")],
)
def test_changes_are_short(change: float | None, shown: str) -> None:
    from dashboard.plots import format_change

    assert format_change(change) == shown


def test_load_adds_up_over_instances(runs: Path) -> None:
    found = {name: simserve.RunFolder.read(runs / name) for name in ("one", "two")}
    for picture in ("latencies", "load"):
        figure = simserve.draw_comparison(found, picture)
        assert 0 < sum(len(trace.x) for trace in figure.data) <= 20_000
    running = np.asarray(figure.data[0].y)
    assert running.max() == found["one"].steps["running"].max()
    assert running.min() >= 0


def test_kv_use_and_preemptions_are_of_all_instances(tmp_path: Path, runs: Path) -> None:
    short = ["workload.trace.rate_scale=8", "pools.0.engine.num_gpu_blocks_override=300"]
    scenario = simserve.load_scenario("quickstart", ["workload.trace.limit=60", *short])
    folders = {"two": runs / "two", "short": simserve.simulate(scenario).write(tmp_path / "short")}
    found = {name: simserve.RunFolder.read(folder) for name, folder in folders.items()}
    drawn = simserve.draw_comparison(found, "load")
    lines = {(trace.name, trace.yaxis): np.asarray(trace.y, float) for trace in drawn.data}
    assert len(lines) == 10
    used = lines["short", "y4"]
    assert 0.5 < used.max() <= 1
    assert used.max() > 5 * lines["two", "y4"].max()
    assert lines["short", "y5"][-1] == found["short"].summary["preemptions"] > 0
    assert lines["two", "y5"].tolist() == [0, 0]


def test_decades_apart_are_on_an_axis_of_logarithms(tmp_path: Path, runs: Path) -> None:
    slow = ["workload.trace.rate_scale=50", "pools.0.replicas=1", "pools.0.engine.max_num_seqs=1"]
    scenario = simserve.load_scenario("quickstart", ["workload.trace.limit=60", *slow])
    folders = {"two": runs / "two", "slow": simserve.simulate(scenario).write(tmp_path / "slow")}
    found = {name: simserve.RunFolder.read(folder) for name, folder in folders.items()}
    drawn = simserve.draw_comparison(found, "latencies").layout
    assert drawn.xaxis.type == "log", "TTFT"
    low, high = drawn.xaxis.range
    assert 10**low < found["two"].summary["median_ttft_ms"] / 1e3
    assert 10**high > found["slow"].summary["p99_ttft_ms"] / 1e3
    assert drawn.xaxis2.type == "linear", "TPOT"
    alone = simserve.draw_run(found["two"], "latency_distributions").layout
    assert (alone.xaxis.type, alone.xaxis.range[0]) == ("linear", 0)


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["out/one", "out/two"], ["one", "two"]),
        (["a/run", "b/run"], ["a/run", "b/run"]),
        (["x/chat-0123456789ab", "x/chat-tp-2-ab0123456789"], ["chat", "chat-tp-2"]),
        (["x/chat-0123456789ab", "x/chat-ab0123456789"], ["chat-0123456789ab", "chat-ab0123456789"]),
    ],
)
def test_labels_are_short_but_told_apart(names: list[str], short: list[str]) -> None:
    from dashboard.difference_table import short_labels

    assert short_labels(names) == short
