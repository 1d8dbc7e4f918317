"""Reads the flags of a `vllm serve` command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from simserve.errors import InputError
from simserve.scenario.vllm_flags import (
    ENGINE_FLAGS,
    SHORT_FLAGS,
    SILENT_OPTIONS,
    SILENT_SWITCHES,
    UnsupportedValueError,
    read_int,
)

# A command line does not say how often drafts are accepted; the rates that Leviathan et al. measured for
# small draft models lie between 0.5 and 0.8 (arXiv:2211.17192, table 2).
ASSUMED_ACCEPTANCE = 0.7


class FlagReading:
    """What the flags said.

    Attributes:
        model: The model's name, once seen.
        engine: Engine keys in the order of the command line.
        seed: Seed, if given.
        unknown: Flags without counterpart.
    """

    def __init__(self) -> None:
        self.model: str | None = None
        self.engine: dict[str, Any] = {}
        self.seed: int | None = None
        self.unknown: list[str] = []
        self._swallowed: list[tuple[str, str]] = []
        self._speculative: dict[str, Any] = {}

    def read(self, words: list[str]) -> None:
        queue = list(reversed(words))
        while queue:
            word = queue.pop()
            if not word.startswith("-"):
                self._positional(word)
                continue
            name, equals, inline = word.partition("=")
            name = _canonical(name)
            value = inline if equals else None
            if name in SILENT_SWITCHES or (
                name.removeprefix("--no-") != name and _positive(name) in SILENT_SWITCHES
            ):
                continue
            if value is None and _takes_value(name) and queue and not _is_flag(queue[-1]):
                value = queue.pop()
                if not _is_known(name):
                    self._swallowed.append((name, value))
            self._flag(name, value)
        self._finish()

    def _positional(self, word: str) -> None:
        if self.model is None:
            self.model = word
        else:
            self.unknown.append(word)

    def _flag(self, name: str, value: str | None) -> None:
        base, _, inner = name.partition(".")
        if base == "--speculative-config":
            self._read_speculative(inner, _required(name, value))
        elif name == "--model":
            self.model = _required(name, value)
        elif name == "--seed":
            self.seed = _read(name, read_int, _required(name, value))
        elif name in ENGINE_FLAGS or _positive(name) in ENGINE_FLAGS:
            self._engine_flag(name, value)
        elif name not in SILENT_OPTIONS:
            self.unknown.append(name if value is None else f"{name} {value}")

    def _engine_flag(self, name: str, value: str | None) -> None:
        flag = ENGINE_FLAGS.get(name) or ENGINE_FLAGS[_positive(name)]
        if flag.read is None:
            if value is not None and value.lower() not in ("true", "false"):
                raise InputError(f"{name}: expected no value, got {value!r}")
            self.engine[flag.key] = (name in ENGINE_FLAGS) != (value is not None and value.lower() == "false")
            return
        try:
            read = _read(name, flag.read, _required(name, value))
        except UnsupportedValueError:
            self.unknown.append(f"{name} {value}")
            return
        if read is not None:
            self.engine[flag.key] = read

    def _read_speculative(self, inner: str, value: str) -> None:
        if inner:
            self._speculative[inner.replace("-", "_")] = int(value) if value.isdecimal() else value
            return
        try:
            config = json.loads(value)
        except json.JSONDecodeError as error:
            raise InputError(f"--speculative-config: no valid JSON: {error}") from None
        if not isinstance(config, dict):
            raise InputError("--speculative-config: expected a JSON object")
        self._speculative.update(config)

    def _finish(self) -> None:
        """Take the model from behind an unknown flag if it stands nowhere else, and settle speculation."""
        likely = [item for item in self._swallowed if "/" in item[1]]
        if self.model is None and likely:
            name, self.model = likely[0]
            self.unknown[self.unknown.index(f"{name} {self.model}")] = name
        config = self._speculative
        if not config:
            return
        draft = config.pop("model", None)
        method = str(config.pop("method", None) or ("ngram" if draft in (None, "ngram") else "draft_model"))
        method = {"eagle3": "eagle", "[ngram]": "ngram"}.get(method, method)
        if method not in ("ngram", "eagle", "draft_model"):
            self.unknown.append(f"--speculative-config method {method}")
            return
        section: dict[str, Any] = {"method": method}
        section["num_speculative_tokens"] = config.pop("num_speculative_tokens", None)
        if not isinstance(section["num_speculative_tokens"], int):
            raise InputError("--speculative-config: expected num_speculative_tokens, a whole number")
        section["acceptance"] = ASSUMED_ACCEPTANCE
        if method == "draft_model":
            section["model"] = str(draft)
        self.engine["speculative"] = section
        ignored = ("prompt_lookup_max", "prompt_lookup_min", "draft_tensor_parallel_size")
        self.unknown.extend(f"--speculative-config {key}" for key in config if key not in ignored)


def _canonical(name: str) -> str:
    """Return the long flag with dashes; what stands behind a dot keeps its spelling."""
    head, dot, tail = name.partition(".")
    return SHORT_FLAGS.get(head, head.replace("_", "-")) + dot + tail


def _positive(name: str) -> str:
    return "--" + name.removeprefix("--no-") if name.startswith("--no-") else name


def _is_flag(word: str) -> bool:
    return word.startswith("-") and not re.fullmatch(r"-\d+(\.\d+)?", word)


def _is_known(name: str) -> bool:
    base = name.partition(".")[0]
    known = ("--model", "--seed", "--speculative-config")
    return base in known or _positive(base) in ENGINE_FLAGS or base in SILENT_OPTIONS


def _takes_value(name: str) -> bool:
    flag = ENGINE_FLAGS.get(_positive(name))
    return flag is None or flag.read is not None


def _required(name: str, value: str | None) -> str:
    if value is None:
        raise InputError(f"{name}: expected a value")
    return value


def _read(name: str, read: Callable[[str], Any], value: str) -> Any:
    try:
        return read(value)
    except InputError as error:
        raise InputError(f"{name}: {error.message}") from None
