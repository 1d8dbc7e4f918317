"""Why a simulation of a study has no result: one of many that fails must not stop the others."""

from __future__ import annotations

import traceback

from simserve.errors import SimserveError


def describe_failure(error: BaseException) -> str:
    """Return an error in a line: what it says, and where it arose if it was not raised on purpose."""
    if isinstance(error, SimserveError):
        return str(error)
    if isinstance(error, MemoryError):
        return "it needs more memory than this machine has"
    what = traceback.format_exception_only(error)[-1].strip()
    frames = traceback.extract_tb(error.__traceback__)
    return f"{what} ({frames[-1].filename}:{frames[-1].lineno})" if frames else what
