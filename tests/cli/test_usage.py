"""Mistakes on the command line are told in one form, with the nearest valid word and status 2."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest

from simserve.cli.entry import run_app


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("rn quickstart", "unknown command 'rn'; did you mean 'run'?\n`simserve --help` shows what it takes"),
        ("trace stat x", "unknown command 'stat'; did you mean 'stats'?"),
        ("conformance vlm logs", "unknown command 'vlm'; did you mean 'vllm'?"),
        ("calibrate ft x", "unknown command 'ft'; did you mean 'fit'?"),
        ("run quickstart --ot x", "unknown option '--ot'; did you mean '--out'?"),
        ("run", "missing argument 'scenario'\n`simserve run --help` shows what it takes"),
        ("list", "missing argument 'WHAT'. Choose from: models, hardware, "),
        ("run quickstart --seeds two", "--seeds: expected a whole number, got 'two'"),
        ("run quickstart --seeds 0", "--seeds: expected a number of at least 1, got '0'"),
        ("capacity quickstart --slo 'ttft_p90<=1s' --tolerance nan", "--tolerance: expected a number of at "),
        # Words of a choice.
        (
            "run quickstart --explain mem",
            "--explain: expected memory or step, got 'mem'; did you mean 'memory'?",
        ),
        (
            "recommend quickstart --slo x --objective gpu",
            "throughput_per_gpu or energy, got 'gpu'; did you mean",
        ),
        (
            "validate x --cost mesured",
            "--cost: expected analytic or measured, got 'mesured'; did you mean 'meas",
        ),
        (
            "sweep x --out y --executor lokal",
            "--executor: expected local or ray, got 'lokal'; did you mean 'loc",
        ),
        ("list modles", "scenarios or traces, got 'modles'; did you mean 'models'?"),
    ],
)
def test_mistakes_are_told_in_one_form(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(shlex.split(line)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("simserve: error: ")
    assert message in said.err


@pytest.mark.parametrize(
    ("word", "listed"), [("gpus", "hardware"), ("Engines", "schedulers"), ("router", "routers")]
)
def test_list_takes_other_words(word: str, listed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(["list", word, "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == [listed]


def test_a_group_without_a_command_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(["trace"]) == 2
    said = capsys.readouterr()
    assert "Describe, convert, generate or fetch request traces." in said.out + said.err
    assert run_app(["trace", "--help"]) == 0


@pytest.mark.parametrize(
    ("redirection", "status", "said"),
    [
        (">&-", 0, ""),
        ("2>&-", 0, ""),
        ("> /dev/full", 1, "simserve: error: No space left on device\n"),
    ],
)
def test_output_that_cannot_be_written(redirection: str, status: int, said: str) -> None:
    command = [sys.executable, "-c", "from simserve.cli.entry import main; main()", "list", "orders"]
    done = subprocess.run(
        ["sh", "-c", f"{shlex.join(command)} {redirection}"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (status, said)
