"""`simserve conformance`: golden logs of the real schedulers against the classes that the registry builds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from simserve.errors import SimserveError, UnknownNameError

if TYPE_CHECKING:
    from simserve.conformance.report import ConformanceReport
    from simserve.conformance.sglang_report import SglangReport

_ENGINES = ("vllm", "sglang")


def check_conformance(engine: str, paths: list[str], *, as_json: bool) -> None:
    """Replay the logs among `paths` and print how many agree; exit 1 if any differs."""
    if engine not in _ENGINES:
        raise UnknownNameError("engine with golden logs", engine, _ENGINES)
    report = _replay(engine, [Path(path) for path in paths])
    if as_json:
        print(json.dumps(report.to_json(), indent=2))
    else:
        print("\n".join(report.lines()))
    if not report.ok:
        raise SystemExit(SimserveError.exit_status)


def _replay(engine: str, paths: list[Path]) -> ConformanceReport | SglangReport:
    if engine == "sglang":
        from simserve.conformance.sglang import replay_paths as replay_sglang

        return replay_sglang(paths)
    from simserve.conformance.vllm import replay_paths

    return replay_paths(paths)
