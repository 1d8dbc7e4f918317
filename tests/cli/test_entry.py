"""The command line: what it prints where, and with which status it ends."""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main

from simserve.cli.calibrate import app as calibrate_app
from simserve.cli.conformance import app as conformance_app
from simserve.cli.entry import app
from simserve.metrics.result import Result
from simserve.scenario.schema import Scenario

ROOT = Path(__file__).resolve().parents[2]
RunCli = Callable[..., subprocess.CompletedProcess[str]]
SMALL = """\
name: small
model: llama-3.1-8b
workload: {arrivals: 50, prompt_tokens: 64, output_tokens: 8, requests: 40}
pools: {hardware: h100-sxm, replicas: 2}
slo: {ttft_s: 1.0}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def test_run_prints_a_summary_and_writes_a_run(run_cli: RunCli, scenario: Path, tmp_path: Path) -> None:
    done = run_cli("run", str(scenario), "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "small"
    assert lines[1].startswith("served by      llama-3.1-8b on 2 x h100-sxm, 2 instances of vllm 0.19, TP 1")
    assert lines[2].startswith("requests       40 completed, 0 failed, 0 unfinished")
    assert "\nbottleneck     " in done.stdout
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["completed"] == 40
    assert (tmp_path / "out" / "scenario.yaml").read_text().startswith(("#", "name: small"))


def test_a_written_scenario_runs_again_to_the_same_bytes(
    run_cli: RunCli, scenario: Path, tmp_path: Path
) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    assert run_cli("run", str(scenario), "--out", str(first), "-q").returncode == 0
    done = run_cli("run", str(first / "scenario.yaml"), "--out", str(again), "-q")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    for path in first.iterdir():
        if path.name != "run.json":
            assert path.read_bytes() == (again / path.name).read_bytes(), path.name


def test_json_is_one_object_and_nothing_else(run_cli: RunCli, scenario: Path) -> None:
    done = run_cli("run", str(scenario), "--json", "--set", "seed=3")
    summary = json.loads(done.stdout)
    assert summary["seed"] == 3
    assert done.stderr == ""


def test_seeds_give_intervals(run_cli: RunCli, scenario: Path, tmp_path: Path) -> None:
    done = run_cli("run", str(scenario), "--seeds", "3", "--json", "--out", str(tmp_path / "out"))
    report = json.loads(done.stdout)
    assert report["seeds"] == [0, 1, 2]
    means = [summary["mean_e2el_ms"] for summary in report["runs"]]
    assert report["intervals"]["mean_e2el_ms"]["mean"] == pytest.approx(sum(means) / 3)
    assert len(set(means)) > 1, "seeds draw different arrivals"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["seed-0", "seed-1", "seed-2"]
    text = run_cli("run", str(scenario), "--seeds", "2").stdout
    assert text.startswith("over 2 seeds")


def test_compare_scenarios_and_runs(run_cli: RunCli, scenario: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.yaml"
    half.write_text(SMALL.replace("replicas: 2", "replicas: 1"))
    done = run_cli("compare", str(scenario), str(half))
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.split("\n")]
    assert lines[:2] == [["differ", "in", "small.yaml", "half.yaml"], ["pools.0.replicas", "2", "1"]]
    assert ["small.yaml", "half.yaml", "difference"] in lines
    run_cli("run", str(scenario), "--out", str(tmp_path / "out"), "-q")
    report = json.loads(run_cli("compare", str(tmp_path / "out"), str(scenario), "--json").stdout)
    assert report["settings"] == {}
    assert set(report["relative_difference"].values()) <= {0.0, None}
    done = run_cli("compare", str(tmp_path / "out"), str(scenario), "--set", "seed=1")
    assert done.returncode == 2


def test_explain_memory_names_every_part(run_cli: RunCli, scenario: Path) -> None:
    done = run_cli("run", str(scenario), "--explain", "memory")
    assert done.returncode == 0, done.stderr
    assert re.search(r"weights", done.stdout)
    assert re.search(r"max_num_batched_tokens [\d,]+ \(default on", done.stdout)
    assert run_cli("run", str(scenario), "--explain", "step").returncode == 0


@pytest.mark.parametrize(
    "what", ["models", "hardware", "routers", "schedulers", "orders", "evictions", "scenarios", "traces"]
)
def test_list(run_cli: RunCli, what: str) -> None:
    entries = json.loads(run_cli("list", what, "--json").stdout)[what]
    assert entries
    text = run_cli("list", what).stdout
    assert all(str(entry.get("name", entry.get("path"))) in text for entry in entries)


def test_schema_is_json(run_cli: RunCli) -> None:
    schema = json.loads(run_cli("schema").stdout)
    assert "workload" in schema["properties"]


def test_import_a_vllm_command(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli("import", "vllm serve Qwen/Qwen3-8B -tp 2 --frobnicate 3", "--hardware", "h100-sxm")
    assert "tensor_parallel_size: 2" in done.stdout
    assert "--frobnicate" in done.stderr
    report = json.loads(run_cli("import", "vllm serve Qwen/Qwen3-8B", "--json").stdout)
    assert report["unknown_flags"] == []


def test_trace_commands_are_mounted(run_cli: RunCli) -> None:
    done = run_cli("trace", "--help")
    assert done.returncode == 0
    assert all(command in done.stdout for command in ("stats", "convert", "generate", "fetch"))


def test_conformance_refuses_an_unknown_engine(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli("conformance", "vlm", str(tmp_path))
    assert done.returncode == 2
    assert "did you mean 'vllm'?" in done.stderr


def test_bad_input_is_one_message_and_status_2(run_cli: RunCli, scenario: Path) -> None:
    done = run_cli("run", str(scenario), "--set", "pools.0.replica=3")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "replicas" in done.stderr
    assert done.stdout == ""


def test_an_output_folder_of_others_is_refused_before_the_run(
    run_cli: RunCli, scenario: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("")
    done = run_cli("run", str(scenario), "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "is not empty and holds no run" in done.stderr


def read_screen(screen: int, process: subprocess.Popen[str], until: str | None = None) -> str:
    """Return what a process writes on its terminal, up to a text, or its end."""
    seen = ""
    while until is None or until not in seen:
        if not select.select([screen], [], [], 0.2)[0]:
            if process.poll() is not None:
                break  # somebody else holds the other end, as a process that was forked meanwhile
            continue
        try:
            part = os.read(screen, 4096)
        except OSError:  # Linux: the other end is closed
            break
        if not part:
            break
        seen += part.decode()
    return seen


def test_ctrl_c_writes_what_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "long.yaml"
    path.write_text(
        SMALL.replace("requests: 40", "requests: 2000000").replace("output_tokens: 8", "output_tokens: 400")
    )
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-c",
        "from simserve.cli.entry import main; main()",
        "run",
        str(path),
        "--out",
        str(out),
    ]
    screen, terminal = pty.openpty()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal, text=True)
    os.close(terminal)
    # The progress line estimates the rest as soon as a request has ended; it comes only on a terminal.
    stderr = read_screen(screen, process, until="s left")
    process.send_signal(signal.SIGINT)
    stderr += read_screen(screen, process)
    stdout, _ = process.communicate(timeout=120)
    os.close(screen)
    assert process.returncode == 1, stderr
    assert "Traceback" not in stderr
    assert "stopped before the end" in stderr
    assert "PARTIAL" in stdout.splitlines()[0]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["partial"] is True
    assert summary["completed"] > 0
    import pyarrow.parquet as pq

    counted = summary["completed"] + summary["failed"] + summary["unfinished"]
    assert counted == pq.read_metadata(out / "requests.parquet").num_rows < 2_000_000


def test_every_command_has_help_with_an_example() -> None:
    group = typer.main.get_group(app)
    for name, command in group.commands.items():
        if name in ("trace", "calibrate", "conformance"):
            continue
        assert command.help, name
        assert command.epilog is not None, name
        assert f"simserve {name}" in command.epilog


def test_the_reference_names_every_command_and_option() -> None:
    page = (ROOT / "docs" / "reference" / "cli.md").read_text()
    for name, command in typer.main.get_group(app).commands.items():
        assert f"## `simserve {name}" in page, name
        section = page.split(f"## `simserve {name}")[1].split("\n## ")[0]
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("--"):
                    assert option in section, f"{name} {option}"


def test_the_page_of_calibrate_names_every_option() -> None:
    page = (ROOT / "docs" / "reference" / "calibrate.md").read_text()
    for name, command in typer.main.get_group(calibrate_app).commands.items():
        section = page.split(f"## `simserve calibrate {name} ")[1].split("\n## ")[0]
        assert command.epilog is not None, name
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("--"):
                    assert f"`{option}" in section, f"{name} {option}"


def test_the_reference_names_every_option_of_conformance() -> None:
    page = (ROOT / "docs" / "reference" / "cli.md").read_text()
    sections = {part.split("`")[0]: part for part in page.split("## `simserve conformance ")[1:]}
    for name, command in typer.main.get_group(conformance_app).commands.items():
        section = next(part for title, part in sections.items() if name in title)
        assert command.epilog is not None, name
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("--"):
                    assert f"`{option}" in section.split("\n## ")[0], f"{name} {option}"


def test_help_loads_no_library_that_only_a_run_needs() -> None:
    """Start-up stays quick: `--help` costs about 80 ms above a bare Python, numpy alone would add as much."""
    command = [
        sys.executable,
        "-X",
        "importtime",
        "-c",
        "from simserve.cli.entry import main; main()",
        "--help",
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    loaded = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    heavy = {"numpy", "pandas", "pyarrow", "pydantic", "networkx", "simpy", "yaml", "scipy", "plotly"}
    assert "simserve" in loaded
    assert not loaded & heavy


def test_start_up_is_quick(tmp_path: Path) -> None:
    """At most 2.5 times the CPU time of loading Typer, which it cannot do without: so on any machine.

    The least of seven in turns, so that neighbours do not count. Modules are compiled once, as in any
    installation; the first of the seven does that.
    """
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def cpu_s(*command: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *command], check=True, capture_output=True, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    help_page = ("-c", "from simserve.cli.entry import main; main()", "--help")
    times = [(cpu_s(*help_page), cpu_s("-c", "import typer, typer.main")) for _ in range(7)]
    ours, typer_alone = (min(column) for column in zip(*times, strict=True))
    assert ours < 2.5 * typer_alone, f"{ours:.3f} s against {typer_alone:.3f} s"


def test_ctrl_c_among_several_runs_tells_what_is_written(
    scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second seed is stopped: no intervals, the first's run whole, the second's partial."""
    import simserve.simulation
    from simserve.cli.run import compare_runs, run_seeds

    begun: list[int] = []
    simulate = simserve.simulation.simulate

    def stop_second(loaded: Scenario, **options: Any) -> Result:
        begun.append(loaded.seed)
        result = simulate(loaded, **options)
        result.partial = len(begun) == 2
        return result

    monkeypatch.setattr(simserve.simulation, "simulate", stop_second)
    out = tmp_path / "out"
    with pytest.raises(SystemExit):
        run_seeds(str(scenario), [], 4, str(out), as_json=False, check=False, quiet=False)
    said = capsys.readouterr()
    assert said.out == ""
    assert f"stopped during seed 1; written: {out}/seed-0, {out}/seed-1 (the last is partial)" in said.err
    begun.clear()
    with pytest.raises(SystemExit):
        compare_runs(str(scenario), "quickstart", [], as_json=False)
    assert "stopped during quickstart; nothing was written" in capsys.readouterr().err
