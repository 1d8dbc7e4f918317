"""The page *Run*: knobs become overrides, a run has a process of its own, a stranger's scenario is held."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

pytest.importorskip("streamlit")
Open, Words = Callable[..., Any], Callable[[Any], str]

TEXT = (
    "model: llama-3.1-8b\npools: {hardware: h100-sxm}\n"
    "workload: {arrivals: 10, prompt_tokens: 512, output_tokens: 64, requests: 20}\n"
)


def wait(app: Any) -> Any:
    """Let the run of a page end, and show what came of it."""
    job = app.session_state["job"]
    deadline_s = time.monotonic() + 60
    while job.running and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert not job.running
    return app.run()


def press(app: Any, label: str) -> Any:
    (button,) = (each for each in app.button if each.label == label)
    return button.click().run()


def test_knobs_start_with_the_scenario_and_change_the_run(
    empty: Path, open_page: Open, words_of: Words
) -> None:
    app = open_page("run", scenario="quickstart")
    assert not app.exception
    knobs = {each.label: each for each in (*app.number_input, *app.selectbox)}
    assert knobs["replicas (instances)"].value == 2
    assert knobs["hardware"].value == "h100-sxm"
    assert knobs["max_num_seqs"].value == 256
    assert "GPUs that share each layer" in knobs["tensor_parallel_size"].help
    knobs["replicas (instances)"].set_value(1)
    knobs["requests (limit)"].set_value(30)
    app.text_area(key="set").set_value("pools.0.engine.enable_prefix_caching=false")
    app = wait(press(app.run(), "Run"))
    assert not app.exception
    assert "Done." in words_of(app)
    (summary,) = (json.loads(path.read_text()) for path in empty.rglob("summary.json"))
    assert summary["completed"] == 30
    assert summary["pools"][0]["accelerators"] == 1
    assert "enable_prefix_caching: false" in next(empty.rglob("scenario.yaml")).read_text()
    assert any(metric.label == "TTFT p90" for metric in app.metric)
    (folder,) = (empty / "simserve-runs").iterdir()
    assert folder.name.startswith("quickstart-chat-replicas-1-limit-30-")
    again = open_page("run", scenario="quickstart", job=app.query_params["job"])
    assert any(metric.label == "TTFT p90" for metric in again.metric), "the address holds the result"
    again = press(app, "Run")
    assert "was there already" in words_of(again), "the same content is not run twice"


def test_the_form_has_the_knobs_of_the_schema(empty: Path, open_page: Open) -> None:
    (empty / "own.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,50,9\n1,60,9\n")
    app = open_page("run", scenario="quickstart")
    numbers = {each.label: each for each in app.number_input}
    choices = {each.label: each for each in app.selectbox}
    assert numbers["pipeline_parallel_size"].min == 1
    assert choices["scheduling_policy"].options == ["fcfs", "priority"]
    assert "fp8" in choices["kv_cache_dtype"].options
    assert "prefix_aware" in choices["router"].options
    (caching,) = app.toggle
    assert caching.label == "enable_prefix_caching"
    assert caching.value
    caching.set_value(False)
    choices["trace"].set_value(str(empty / "own.csv"))
    choices["router"].set_value("round_robin")
    choices["kv_cache_dtype"].set_value("fp8")
    numbers["gpu_memory_utilization"].set_value(0.5)
    app = wait(press(app.run(), "Run"))
    assert not app.exception
    text = next(empty.rglob("scenario.yaml")).read_text()
    for line in (
        "enable_prefix_caching: false", "own.csv", "policy: round_robin", "kv_cache_dtype: fp8",
        "gpu_memory_utilization: 0.5",
    ):  # fmt: skip
        assert line in text


def test_the_form_follows_the_scenario(empty: Path, open_page: Open) -> None:
    app = open_page("run", scenario="static-batching")
    kinds = {each.label: each.value for each in app.selectbox}
    assert (kinds["engine"], kinds["hardware"]) == ("static", "a100-sxm-80gb")
    assert {each.label for each in app.number_input} >= {"rate_per_s", "requests"}


def test_knobs_are_in_the_address(empty: Path, open_page: Open) -> None:
    app = open_page("run", scenario="static-batching")
    assert not [name for name in app.query_params if name.startswith("pools.")]
    knobs = {each.label: each for each in (*app.number_input, *app.selectbox)}
    knobs["engine"].set_value("vllm")
    knobs["replicas (instances)"].set_value(3)
    knobs["rate_per_s"].set_value(2.5)
    app = app.run()
    found = {name: app.query_params[name] for name in app.query_params if name != "scenario"}
    assert found == {
        "pools.0.engine.kind": "vllm", "pools.0.replicas": "3", "workload.arrivals.rate_per_s": "2.5",
    }  # fmt: skip
    again = open_page("run", scenario="static-batching", **found)
    assert not again.exception
    knobs = {each.label: each for each in (*again.number_input, *again.selectbox)}
    assert (knobs["engine"].value, knobs["replicas (instances)"].value, knobs["rate_per_s"].value) == (
        "vllm",
        3,
        2.5,
    )
    assert knobs["max_num_seqs"].value == 32
    knobs["engine"].set_value("static")
    assert "pools.0.engine.kind" not in again.run().query_params
    other = again.selectbox(key="scenario").set_value("quickstart").run()
    knobs = {each.label: each for each in (*other.number_input, *other.selectbox)}
    assert knobs["replicas (instances)"].value == 2, "another scenario begins with its own values"
    assert not [name for name in other.query_params if name.startswith(("pools.", "workload."))]


@pytest.mark.parametrize("given", ["three", "0", "true", "[1]", "2.5", "null", "9" * 30])
def test_an_address_with_no_value_of_a_knob_is_passed_over(empty: Path, open_page: Open, given: str) -> None:
    app = open_page("run", scenario="quickstart", **{"pools.0.replicas": given})
    assert not app.exception
    assert {each.label: each.value for each in app.number_input}["replicas (instances)"] == 2


def test_a_reloaded_page_goes_on_with_its_run(empty: Path, open_page: Open, words_of: Words) -> None:
    long = TEXT.replace("requests: 20", "requests: 300000").replace("arrivals: 10", "arrivals: 3")
    (empty / "long.yaml").write_text(long)
    app = press(open_page("run", **{"from": "in my folders"}), "Run")
    job = app.session_state["job"]
    address = {name: app.query_params[name] for name in ("from", "job") if name in app.query_params}
    again = open_page("run", **{"from": "in my folders"} | address)
    assert again.session_state["job"] is job, "no second process writes into its folder"
    notes = job.notes
    assert notes is not None
    assert notes.exists()
    job.stop()
    app = wait(again)
    assert not app.exception
    assert "stopped before" in words_of(app), "its end, or there was anything to show"
    assert not app.success
    assert not notes.exists(), "nothing is left behind"
    assert "no longer there" in words_of(open_page("run", job="0123456789ab"))


def test_links_to_nowhere_and_pipes_are_passed_over(empty: Path, open_page: Open) -> None:
    for name in ("gone.yaml", "gone.csv"):
        (empty / name).symlink_to(empty / "nowhere")
    os.mkfifo(empty / "pipe.yaml")
    os.mkfifo(empty / "pipe.csv")
    for page in ("run", "trace"):
        assert not open_page(page).exception


def test_a_run_is_compared_with_the_one_before(empty: Path, open_page: Open, words_of: Words) -> None:
    app = open_page("run", scenario="quickstart", **{"workload.trace.limit": "20"})
    app = wait(press(app, "Run"))
    assert "compare?" not in words_of(app), "there is none before"
    (first,) = (empty / "simserve-runs").iterdir()
    next(each for each in app.number_input if each.label == "requests (limit)").set_value(30)
    app = wait(press(app.run(), "Run"))
    (second,) = (each for each in (empty / "simserve-runs").iterdir() if each != first)
    names = [f"simserve-runs/{each.name}" for each in (first, second)]
    link = re.search(r"\[compare it with the run before\]\(compare\?(.*?)\)", words_of(app))
    assert link is not None
    assert parse_qs(link[1]) == {"runs": names}
    assert open_page("compare", runs=names).multiselect(key="runs").value == names


def test_only_scenarios_are_offered(empty: Path, open_page: Open, words_of: Words) -> None:
    (empty / "sweep.yaml").write_text("base: quickstart\naxes:\n  - {key: seed, values: [1, 2]}\n")
    assert "There is no scenario" in words_of(open_page("run", **{"from": "in my folders"}))
    (empty / "own.yaml").write_text(TEXT)
    app = open_page("run", **{"from": "in my folders"})
    assert app.selectbox(key="file").options == ["own.yaml"]
    assert not app.error


def test_each_problem_of_a_scenario_has_a_line(empty: Path, open_page: Open) -> None:
    (empty / "own.yaml").write_text(TEXT.replace("model:", "modle:") + "sed: 3\n")
    app = open_page("run", **{"from": "in my folders"})
    (error,) = app.error
    lines = str(error.value).split("  \n")
    assert any("modle" in line and "sed" not in line for line in lines)
    assert "Mend the file" in app.caption[-1].value


def test_a_wrong_key_is_told_and_runs_nothing(empty: Path, open_page: Open, words_of: Words) -> None:
    app = open_page("run", scenario="quickstart", set="pools.0.engine.max_num_seq=3")
    app = press(app, "Run")
    assert not app.exception
    assert "max_num_seqs" in words_of(app), "names the nearest key"
    assert "job" not in app.session_state


def test_a_failed_run_says_what_to_do(empty: Path, open_page: Open, words_of: Words) -> None:
    app = open_page("run", scenario="quickstart", set="model=llama-3.1-405b\npools.0.model=null")
    app = press(app, "Run")
    app = wait(app) if "job" in app.session_state else app
    words = words_of(app)
    assert "memory" in words
    assert "hange what" in words
    assert not list(empty.rglob("summary.json"))


def test_stopping_keeps_what_is_complete(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dashboard.jobs import Order, start_job

    text = TEXT.replace("requests: 20", "requests: 300000").replace("arrivals: 10", "arrivals: 3")
    job = start_job(Order(text))
    deadline_s = time.monotonic() + 60
    while not job.progress[1] and job.running and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert job.progress[2] == 300_000
    job.stop()
    assert job.process is not None
    assert job.process.wait(timeout=60) == 0
    assert json.loads((job.folder / "summary.json").read_text())["partial"]
    again = start_job(Order(text))
    assert again.running, "a partial run is no result to be reused"
    assert again.process is not None
    again.process.kill()
    again.process.wait()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("hardware: h100-sxm", "hardware: h100-sxm, engine: {kind: 'os:system'}"), "import code"),
        (("hardware: h100-sxm", "hardware: /etc/evil.yaml"), "not found"),
        (
            ("{arrivals: 10, prompt_tokens: 512, output_tokens: 64, requests: 20}", "../outside.csv"),
            "outside",
        ),
        (("model: llama-3.1-8b", "model: ../model"), "outside"),
    ],
)
def test_a_strangers_scenario_neither_imports_nor_reads_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: tuple[str, str], reason: str
) -> None:
    from dashboard.jobs import Order
    from simserve import ScenarioError

    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "outside.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,9,9\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    monkeypatch.chdir(inner)
    monkeypatch.setenv("SIMSERVE_DASHBOARD_DIRS", str(inner))
    with pytest.raises(ScenarioError, match=reason):
        Order(TEXT.replace(*change)).folder()
    monkeypatch.setenv("SIMSERVE_DASHBOARD_DIRS", str(tmp_path))
    Order(TEXT).folder()
