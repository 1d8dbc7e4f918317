"""Names the policy of the user's that raised an error, among all between it and the command line."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from simpy import Environment

from simserve.engine.loop import EngineLoop
from simserve.errors import PolicyError, SimserveError
from simserve.scenario.names import find_imports
from simserve.scenario.schema import Scenario


@contextmanager
def naming_own_policies(scenario: Scenario, env: Environment) -> Iterator[None]:
    """Tell an error of a policy of the user's as such; any other is left as it is.

    Args:
        scenario: Whose policies may be `package.module:Class`.
        env: Its clock, in ns.

    Raises:
        PolicyError: From the error, whose traceback begins at the policy then.
    """
    try:
        yield
    except SimserveError:
        raise
    except Exception as error:
        frames = list(_frames(error.__traceback__))
        imports = (name for _, name in find_imports(scenario.model_dump(mode="json")))
        names = {name.partition(":")[0]: name for name in imports}
        own = [frame for frame in frames if _module(frame) in names]
        if not own:
            raise
        engines = [each for frame in frames if isinstance(each := _self(frame), EngineLoop)]
        where = f" in instance {engines[-1].index}" if engines else ""
        what = traceback.format_exception_only(error)[-1].strip()
        message = f"policy {names[_module(own[0])]} failed at t={env.now / 1e9:.6g} s{where}: {what}"
        raise PolicyError(f"{message} ({_place(own[-1])})") from error.with_traceback(own[0])


def _frames(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _module(frame: TracebackType) -> str:
    return str(frame.tb_frame.f_globals.get("__name__", ""))


def _self(frame: TracebackType) -> object:
    return frame.tb_frame.f_locals.get("self")


def _place(frame: TracebackType) -> str:
    """Return file and line, the file as seen from the working directory if it is below it."""
    path = Path(frame.tb_frame.f_code.co_filename)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"{shown}:{frame.tb_lineno}"
