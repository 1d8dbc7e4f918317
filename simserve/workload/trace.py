"""`read_trace`: one door to all trace formats."""

from __future__ import annotations

import importlib
import inspect
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from simserve.errors import InputError, TraceError, UnknownNameError, nearest
from simserve.workload.lines import open_text
from simserve.workload.workload import Workload

# How much of a file is read to recognise its format.
_SNIFFED_CHARACTERS = 1 << 20


class Format(NamedTuple):
    """A trace format.

    Attributes:
        reader: `module:function` below `simserve.workload.formats`.
        kind: "csv", "jsonl", "json" or "parquet".
        keys: Columns or keys by which it is recognised.
        summary: What it is, in a few words.
    """

    reader: str
    kind: str
    keys: tuple[str, ...]
    summary: str


# In the order in which they are tried: the more particular keys first.
FORMATS: dict[str, Format] = {
    "azure": Format("azure:read", "csv", ("TIMESTAMP", "ContextTokens"), "Azure LLM inference 2023/2024 CSV"),
    "burstgpt": Format("burstgpt:read", "csv", ("Timestamp", "Request tokens"), "BurstGPT CSV"),
    "lengths": Format("lengths:read", "csv", ("num_prefill_tokens",), "Vidur and Sarathi-Serve CSV"),
    "servegen": Format("servegen:read", "csv", ("client", "rate_rps", "dist"), "ServeGen client windows"),
    "csv": Format(
        "native:read_table", "csv", ("arrival_s", "prompt_tokens"), "arrival_s,prompt_tokens,output_tokens"
    ),
    "jsonl": Format("native:read_json", "jsonl", ("simserve_trace",), "simserve's JSONL, all fields"),
    "agent": Format(
        "agent:read", "jsonl", ("session", "turn", "t_us"), "agent sessions, 16-token block hashes"
    ),
    "bailian": Format("bailian:read", "jsonl", ("chat_id", "parent_chat_id"), "Qwen-Bailian JSONL"),
    "llmservingsim": Format("llmservingsim:read", "jsonl", ("arrival_time_ns",), "LLMServingSim JSONL"),
    "mooncake": Format("mooncake:read", "jsonl", ("timestamp", "input_length"), "Mooncake JSONL"),
    "vllm_bench": Format(
        "vllm_bench:read", "json", ("input_lens", "output_lens"), "vllm bench serve, detailed result"
    ),
    "parquet": Format("native:read_parquet", "parquet", (), "simserve's parquet, all fields"),
}


def read_trace(path: str | Path, format: str = "auto", **options: Any) -> Workload:
    """Read a trace of any known format, plain or gzipped.

    Args:
        path: The file.
        format: A key of `FORMATS`, or "auto" to recognise it from the file's first lines.
        options: Options of that format's reader, such as `spread_ticks=True` for mooncake.

    Returns:
        The workload, in order of arrival (a file that is not is sorted, ties keep its order).

    Raises:
        TraceError: If the file cannot be read or a row is broken, as `file:row[:column]`.
        InputError: If the format has no such option.
    """
    path = Path(path)
    if format == "auto":
        format = detect_format(path)
    read = _reader(format)
    valid = options_of(format)
    for name in options:
        if name not in valid:
            hint = nearest(name, valid) if valid else "; it has none"
            raise InputError(f"traces of format {format!r} have no option {name!r}{hint}")
        _check_option(format, name, options[name])
    if not path.is_file():
        raise TraceError("no such file", file=str(path))
    return read(path, **options)


# What an option's annotation says -> the types that it takes, and the words for them.
_OPTION_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "bool": ((bool,), "true or false"),
    "int": ((int,), "a whole number, at least 0"),
    "int | None": ((int, type(None)), "a whole number, at least 0"),
    "float": ((int, float), "a number, at least 0"),
    "float | None": ((int, float, type(None)), "a number, at least 0"),
    "str": ((str,), "text"),
    "str | Path | None": ((str, Path, type(None)), "a path"),
}
_RELEASES = ("recorded", "completion")


def _check_option(format: str, name: str, value: Any) -> None:
    annotation = inspect.signature(_reader(format)).parameters[name].annotation
    types, expected = _OPTION_TYPES[annotation]
    wrong_type = not isinstance(value, types) or (isinstance(value, bool) and bool not in types)
    if wrong_type or (isinstance(value, int | float) and not 0 <= value < float("inf")):
        raise InputError(f"option {name} of format {format!r} is {value!r}; expected {expected}")
    if name == "release" and value not in _RELEASES:
        raise InputError(f"option release is {value!r}; expected {' or '.join(_RELEASES)}")


def options_of(format: str) -> list[str]:
    """Return the options that a format's reader takes.

    Raises:
        UnknownNameError: If there is no such format.
    """
    return list(inspect.signature(_reader(format)).parameters)[1:]


def detect_format(path: Path) -> str:
    """Return the format of a file, a key of `FORMATS`, from its first line.

    Raises:
        TraceError: If it is none of them.
    """
    if not path.is_file():
        raise TraceError("no such file", file=str(path))
    with open(path, "rb") as file:
        if file.read(4) == b"PAR1":
            return "parquet"
    try:
        with open_text(path) as text:
            line = text.readline(_SNIFFED_CHARACTERS)
            while line.isspace():
                line = text.readline(_SNIFFED_CHARACTERS)
            more = text.read(_SNIFFED_CHARACTERS) if line.strip() == "{" else ""
    except UnicodeDecodeError as error:
        raise TraceError("this is no UTF-8 text", file=str(path)) from error
    except (OSError, EOFError, zlib.error) as error:
        raise TraceError(f"cannot read the trace: {error}", file=str(path)) from error
    if not line:
        raise TraceError("the trace is empty", file=str(path))
    for name, known in FORMATS.items():
        if _matches(known, line, more):
            return name
    raise TraceError(f"unknown trace format; expected one of {', '.join(FORMATS)}", file=str(path), line=1)


def _matches(known: Format, line: str, more: str) -> bool:
    if known.kind == "csv":
        header = {name.strip() for name in line.split(",")}
        return header.issuperset(known.keys)
    if known.kind == "json":
        return line.startswith("{") and all(f'"{key}"' in line + more for key in known.keys)
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return False
    if not isinstance(fields, dict):
        return False
    if known.reader == "llmservingsim:read" and "arrival_ns" in fields and "hash_ids" in fields:
        return True  # the compact form
    return fields.keys() >= set(known.keys)


def _reader(format: str) -> Callable[..., Workload]:
    if format not in FORMATS:
        raise UnknownNameError("trace format", format, ["auto", *FORMATS])
    module, _, function = FORMATS[format].reader.partition(":")
    read: Callable[..., Workload] = getattr(
        importlib.import_module(f"simserve.workload.formats.{module}"), function
    )
    return read
