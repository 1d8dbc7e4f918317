"""The examples of `--help` can be typed as they stand, in a clone, or with what is in capitals replaced."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from simserve.cli.calibrate import app as calibrate_app
from simserve.cli.conformance import app as conformance_app
from simserve.cli.entry import app, run_app
from simserve.cli.trace import app as trace_app

ROOT = Path(__file__).resolve().parents[2]
GROUPS = {
    "": app,
    "calibrate": calibrate_app,
    "conformance": conformance_app,
    "trace": trace_app,
}


def split(text: str) -> list[str]:
    """Return the words of a command line up to a redirection."""
    words = shlex.split(text)
    return words[: words.index(">")] if ">" in words else words


def read_examples() -> Iterator[tuple[str, list[str], Any]]:
    """Yield each example with its words after `simserve`, redirections left out, and its command."""
    for group, commands in GROUPS.items():
        for name, command in typer.main.get_group(commands).commands.items():
            if name in GROUPS:
                continue
            text = (command.epilog or "").removeprefix("Example: ")
            words = split(text)
            path = [group, name] if group else [name]
            assert words[: len(path) + 1] == ["simserve", *path], text
            yield text, words[len(path) + 1 :], command


EXAMPLES = list(read_examples())


def words_of(name: str) -> list[str]:
    """Return the example of a command, after `simserve`."""
    (text,) = (text for text, _, _ in EXAMPLES if f"{text} ".startswith(f"simserve {name} "))
    return split(text)[1:]


@pytest.mark.parametrize(("text", "words", "command"), EXAMPLES, ids=[text for text, _, _ in EXAMPLES])
def test_options_and_files_exist(text: str, words: list[str], command: Any) -> None:
    with command.make_context("example", list(words)):  # refuses unknown options and words
        pass
    for word in words:
        is_path = re.fullmatch(r"[\w./-]*(/|\.(yaml|json|csv|gz|parquet|html))[\w./-]*", word)
        if is_path and not word.startswith("build/"):
            assert (ROOT / word).exists(), f"{word} is no file of a clone, nor a name in capitals"


# Those that take a second at most, in the order in which some of them need others.
CHEAP = (
    "run",
    "report",
    "compare",
    "roofline",
    "list",
    "schema",
    "import",
    "trace stats",
    "trace convert",
    "trace generate",
    "conformance record",
    "conformance replay",
)


def test_cheap_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a folder that holds what a clone does, and no `build/` yet."""
    for folder in ("scenarios", "traces", "tests"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)
    for name in CHEAP:
        assert run_app(words_of(name)) == 0, capsys.readouterr().err
    written = {path.name for path in (tmp_path / "build").iterdir()}
    assert {"four", "four.html", "chat.parquet", "load.csv.gz", "overload.json"} <= written


@pytest.mark.parametrize("name", ["validate", "calibrate fit", "calibrate check", "conformance vllm"])
def test_words_in_capitals_are_told_as_missing(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A user who types them as they stand is told what belongs there."""
    assert run_app(words_of(name)) == 2
    assert re.search(r"(KERNELS|LOGS|RUN_DIR): no such", capsys.readouterr().err)
