"""The process of one run: reads its order, reports progress, writes the result."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from dashboard.folders import roots
from simserve import SimserveError, forbid_imports, load_scenario, simulate

# Between two reports.
_INTERVAL_S = 0.2


class _Report:
    """Writes how far a run is, whole or not at all."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written_s = 0.0

    def __call__(self, now_ns: int, ended: int, total: int) -> None:
        wall_s = time.monotonic()
        if wall_s - self._written_s < _INTERVAL_S:
            return
        self._written_s = wall_s
        fresh = self._path.with_suffix(".tmp")
        fresh.write_text(json.dumps({"now_s": now_ns / 1e9, "ended": ended, "total": total}))
        fresh.replace(self._path)


def main(folder: Path) -> int:
    """Run the order in `folder`; return the exit status.

    Args:
        folder: Holds order.json; progress.json is written into it.
    """
    order = json.loads((folder / "order.json").read_text(encoding="utf-8"))
    try:
        scenario = load_scenario(
            order["source"], order["overrides"], allow_imports=False, allow_files=roots()
        )
        simulate(scenario, progress=_Report(folder / "progress.json")).write(order["out"])
    except KeyboardInterrupt:
        print("stopped before there was anything to show", file=sys.stderr)
        return 1
    except SimserveError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    except MemoryError:
        print("the scenario needs more memory than this machine has", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    # Scenarios are refused that name code; this is the wall behind it.
    forbid_imports()
    # Leaves the memory to the system; freeing a large run object by object takes seconds.
    status = main(Path(sys.argv[1]))
    sys.stderr.flush()
    os._exit(status)
