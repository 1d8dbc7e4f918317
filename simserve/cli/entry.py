"""The command line: parses, calls, prints. What a command needs is imported when it runs.

Exit status: 0 done; 1 the run failed, was stopped or a check did not hold; 2 bad input.
"""

from __future__ import annotations

import gc
import os
import sys
import traceback

from typer import Abort

from simserve.cli import commands, planning_commands, study_commands
from simserve.cli.app import app
from simserve.cli.usage import UsageError, print_usage_error

__all__ = ["app", "commands", "main", "planning_commands", "run_app", "study_commands"]

# Of a process that Ctrl-C has ended, as shells tell it: 128 and the signal's number.
_INTERRUPTED = 130


def main() -> None:
    """Run the command line and end the process with its status."""
    # Nothing here multiplies matrices: starting BLAS threads would cost more than a small run. Plug-ins of
    # pydantic are neither needed nor wanted, and looking for them takes time.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # A run makes millions of objects that live to its end and hardly a cycle: look for cycles rarely.
    gc.set_threshold(100_000, 50, 100)
    _open_closed_streams()
    status = run_app()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError as error:
        status = _tell(error)
    # Leaves the memory to the system; freeing a large run object by object takes seconds.
    os._exit(status)


def run_app(words: list[str] | None = None) -> int:
    """Run the command and return its exit status; an error that is no bug is told in one message.

    Args:
        words: The command line after `simserve`; None: that of this process.
    """
    from simserve.errors import InputError, PolicyError, SimserveError

    try:
        return app(args=words, prog_name="simserve", standalone_mode=False) or 0
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except UsageError as error:
        print_usage_error(error)
        return InputError.exit_status
    except SimserveError as error:
        print(f"simserve: error: {error}", file=sys.stderr)
        if isinstance(error, PolicyError) and error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        return error.exit_status
    except (Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except MemoryError:
        print("simserve: error: the scenario needs more memory than this machine has", file=sys.stderr)
    except OSError as error:
        return _tell(error)
    except Exception:
        traceback.print_exc()
    return 1


def _open_closed_streams() -> None:
    """Give a process that was started without standard output or error (`>&-`) one that leads nowhere."""
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _tell(error: OSError) -> int:
    """Tell what the system refused, such as to write onto a full disk, and return the exit status.

    That nobody reads on, as behind `| head`, is not told.
    """
    if not isinstance(error, BrokenPipeError):
        place = "" if error.filename is None else f"{error.filename}: "
        print(f"simserve: error: {place}{error.strerror or error}", file=sys.stderr)
    return 1
