"""Replays golden logs of SGLang through the class that the registry holds for `kind: sglang`.

Five formats: the event loop pass by pass (`sglang_loop`), operations on the radix cache (`sglang_cache`) and
on the one with host memory behind it (`sglang_hicache`), and single rules: queue orders, admission, ratio
and retraction (`sglang_rules`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from simserve import registry
from simserve.conformance.golden import find_logs, load_json
from simserve.conformance.sglang_cache import is_cache_log, replay_cache_log
from simserve.conformance.sglang_comparison import compare_loop
from simserve.conformance.sglang_golden import LOOP_FORMAT, read_loop_log
from simserve.conformance.sglang_hicache import HICACHE_FORMAT, replay_hicache_log
from simserve.conformance.sglang_loop import replay_loop
from simserve.conformance.sglang_report import SglangReport
from simserve.conformance.sglang_rules import check_rules, is_rule_log
from simserve.errors import InputError

ENGINE_KIND = "sglang"


def replay_paths(paths: Iterable[Path], *, kind: str = ENGINE_KIND) -> SglangReport:
    """Replay every golden log among files and folders.

    Args:
        paths: Logs (`*.json`, `*.json.gz`), or folders that hold some; files of another format are skipped
            with a note.
        kind: Name of the engine in the registry, or `package.module:Class`.

    Raises:
        InputError: If a path does not exist, a log is malformed, or no log is found.
    """
    scheduler_class = registry.lookup("engine", kind)
    report = SglangReport()
    for path in find_logs(paths):
        _replay(load_json(path), str(path), scheduler_class, report)
    if not report.loops.outcomes and not report.checks:
        raise InputError("no golden log of SGLang (*.json, *.json.gz) found in the given paths")
    return report


def _replay(document: Any, file: str, scheduler_class: Callable[..., Any], report: SglangReport) -> None:
    """Replay one log, whichever format it has, and note the outcome."""
    if isinstance(document, dict) and document.get("format") == LOOP_FORMAT:
        log = read_loop_log(document, file)
        report.notes.extend(log.notes)
        report.loops.outcomes.append(compare_loop(log, replay_loop(log, scheduler_class)))
    elif isinstance(document, dict) and document.get("format") == HICACHE_FORMAT:
        report.checks += replay_hicache_log(document, file)
    elif is_cache_log(document):
        report.checks += replay_cache_log(document, file)
    elif is_rule_log(document):
        report.checks += check_rules(document, file, scheduler_class)
    else:
        report.notes.append(f"{file}: not a golden log of SGLang, skipped")
