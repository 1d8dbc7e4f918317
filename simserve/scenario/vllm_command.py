"""Turns a pasted `vllm serve ...` command line into a scenario."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any, NamedTuple, get_args

import yaml

from simserve.errors import InputError
from simserve.scenario.catalog import load_hardware, load_model
from simserve.scenario.engine_schema import VersionName
from simserve.scenario.vllm_reading import FlagReading

_SHELL_ENDS = frozenset(("|", "||", "&", "&&", ";", ">", ">>", "2>", "&>", "2>&1", "<"))
_IMAGE = re.compile(r"(?:.*/)?vllm-openai(?::(?:v?(?P<version>\d+\.\d+))?\S*)?")


class ImportedCommand(NamedTuple):
    """A scenario made from a command line.

    Attributes:
        scenario_text: YAML that `load_scenario` takes.
        unknown_flags: Flags, with their values, that have no counterpart in a scenario.
    """

    scenario_text: str
    unknown_flags: list[str]


def import_command(command: str, hardware: str | None = None) -> ImportedCommand:
    """Return the scenario that a `vllm serve` command line describes, on a small chat trace.

    Understands `vllm serve MODEL`, `python -m vllm.entrypoints.openai.api_server --model MODEL` and
    `docker run ... vllm/vllm-openai:TAG`, environment variables before it, line continuations, quotes,
    `--flag value`, `--flag=value`, `--flag_name`, `--no-flag`, short flags and JSON values.

    Args:
        command: The command line, as pasted.
        hardware: The accelerator, which no command line says; None means h100-sxm, with a comment.

    Raises:
        InputError: If it is no such command, names no model or gives a flag a wrong value.
        UnknownNameError: If `hardware` is not in the catalog.
    """
    if hardware is not None:
        load_hardware(hardware)
    words, version = _serve_words(command)
    reading = FlagReading()
    reading.read(words)
    if reading.model is None:
        raise InputError("the command names no model; expected vllm serve MODEL [--flags]")
    return ImportedCommand(_write(reading, version, hardware), reading.unknown)


def _serve_words(command: str) -> tuple[list[str], str | None]:
    """Return the words after `vllm serve` (or its like), and the version if an image's tag says it."""
    text = re.sub(r"\\\r?\n", " ", command).strip().removeprefix("$ ")
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InputError(f"cannot split the command line: {error}") from None
    for index, word in enumerate(words):
        image = _IMAGE.fullmatch(word)
        if image is not None:
            rest = words[index + 1 :]
            return list(_until_shell(rest)), image["version"]
        if word.rsplit("/", 1)[-1] == "vllm" and words[index + 1 : index + 2] == ["serve"]:
            return list(_until_shell(words[index + 2 :])), None
        if word.startswith("vllm.entrypoints."):
            rest = words[index + 1 :]
            return list(_until_shell(rest[1:] if rest[:1] == ["serve"] else rest)), None
    raise InputError(f"not a vLLM server's command line: {text[:60]!r}; expected vllm serve MODEL [--flags]")


def _until_shell(words: list[str]) -> Iterator[str]:
    for word in words:
        if word in _SHELL_ENDS:
            return
        if word.endswith(";"):
            yield word.removesuffix(";")
            return
        yield word


def _write(reading: FlagReading, version: str | None, hardware: str | None) -> str:
    """Return the scenario's text, with comments where something was assumed."""
    assert reading.model is not None
    comments: dict[str, str] = {}
    if hardware is None:
        comments["hardware:"] = "assumed: a command line does not say"
    try:
        load_model(reading.model)
    except InputError as error:
        comments["model:"] = error.message
    engine: dict[str, Any] = {"kind": "vllm", **reading.engine}
    if version is not None:
        engine["version"] = min(get_args(VersionName), key=lambda name: abs(_minor(name) - _minor(version)))
        comments["version:"] = f"the profile nearest to {version}"
    pool = {
        "name": "vllm",
        "replicas": 1,
        "hardware": hardware or "h100-sxm",
        "engine": engine,
    }
    comments["acceptance:"] = "assumed: put the measured rate here"
    comments["path:"] = "a small chat trace: put your own here"
    scenario: dict[str, Any] = {"name": f"vllm serve {reading.model}", "seed": reading.seed or 0}
    scenario["model"] = reading.model
    scenario["workload"] = {"trace": {"path": "traces/chat.csv.gz"}}
    scenario["pools"] = [pool]
    text = yaml.safe_dump(scenario, sort_keys=False, allow_unicode=True, width=1000)
    return "".join(f"{_comment(line, comments)}\n" for line in text.splitlines())


def _minor(version: str) -> int:
    """Return a version's place in vLLM's line of 0.x releases."""
    major, minor = version.split(".")
    return int(major) * 1000 + int(minor)


def _comment(line: str, comments: dict[str, str]) -> str:
    key = line.lstrip(" -").split(" ")[0]
    return f"{line}  # {comments.pop(key)}" if key in comments else line
