"""`simserve import`: a `vllm serve` command line as a scenario."""

from __future__ import annotations

import json
import sys


def print_imported(command: str, hardware: str | None, *, as_json: bool) -> None:
    """Print the scenario to standard output, and the flags that are not known to standard error."""
    from simserve.scenario.vllm_command import import_command

    text, unknown = import_command(command, hardware)
    if as_json:
        print(json.dumps({"scenario": text, "unknown_flags": unknown}, indent=2))
        return
    print(text, end="" if text.endswith("\n") else "\n")
    for flag in unknown:
        print(f"simserve: not known and left out: {flag}", file=sys.stderr)
