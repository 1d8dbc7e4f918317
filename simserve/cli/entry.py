"""The command line: parses, calls, prints. What a command needs is imported when it runs.

Exit status: 0 done; 1 the run failed, was stopped or a check did not hold; 2 bad input.
"""

from __future__ import annotations

import gc
import os
import sys

from simserve.cli import commands, planning_commands, study_commands
from simserve.cli.app import app
from simserve.cli.usage import UsageError, print_usage_error

__all__ = ["app", "commands", "main", "planning_commands", "study_commands"]


def main() -> None:
    """Run the command line and end the process with its status."""
    # Nothing here multiplies matrices: starting BLAS threads would cost more than a small run. Plug-ins of
    # pydantic are neither needed nor wanted, and looking for them takes time.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # A run makes millions of objects that live to its end and hardly a cycle: look for cycles rarely.
    gc.set_threshold(100_000, 50, 100)
    status = _run_app()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        status = 1
    # Leaves the memory to the system; freeing a large run object by object takes seconds.
    os._exit(status)


def _run_app() -> int:
    """Run the command and return its exit status; an error that is no bug is told in one message."""
    from simserve.errors import InputError, SimserveError

    try:
        return app(standalone_mode=False) or 0
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except UsageError as error:
        print_usage_error(error)
        return InputError.exit_status
    except SimserveError as error:
        print(f"simserve: error: {error}", file=sys.stderr)
        return error.exit_status
    except MemoryError:
        print("simserve: error: the scenario needs more memory than this machine has", file=sys.stderr)
    except Exception:
        import traceback

        traceback.print_exc()
    return 1
