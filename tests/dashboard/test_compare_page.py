"""The page *Compare*: what differs in settings and figures, and pictures of bounded size."""

from __future__ import annotations

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
    found = figures.set_index("figure").loc["p90_ttft_ms"]
    assert found["one, change in %"] == pytest.approx((found["one"] / found["two"] - 1) * 100)
    assert len(app.get("plotly_chart")) == 2


def test_the_address_holds_the_choice(runs: Path, open_page: Open) -> None:
    app = choose(open_page("compare"), "one", "two")
    assert app.query_params["runs"] == ["one", "two"]
    again = open_page("compare", runs=["two", "one"])
    assert again.multiselect(key="runs").value == ["two", "one"]


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
