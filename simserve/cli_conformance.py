"""`simserve conformance`: golden logs of the real schedulers against the classes that the registry builds."""

from __future__ import annotations

import json
from pathlib import Path

from simserve.errors import SimserveError, UnknownNameError

_ENGINES = ("vllm",)


def check_conformance(engine: str, paths: list[str], *, as_json: bool) -> None:
    """Replay the logs among `paths` and print how many agree; exit 1 if any differs."""
    if engine not in _ENGINES:
        raise UnknownNameError("engine with golden logs", engine, _ENGINES)
    from simserve.conformance.vllm import replay_paths

    report = replay_paths([Path(path) for path in paths])
    if as_json:
        print(json.dumps(report.to_json(), indent=2))
    else:
        print("\n".join(report.lines()))
    if not report.ok:
        raise SystemExit(SimserveError.exit_status)
