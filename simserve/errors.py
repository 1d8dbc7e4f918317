"""The error tree: every error that simserve raises on purpose is a `SimserveError`.

Bad input (a scenario, a trace row, a command line) is an `InputError` and ends the command line with
status 2; a run that cannot go on is a `SimulationError` and ends it with status 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class SimserveError(Exception):
    """Base of every error raised by simserve on purpose."""

    exit_status = 1


class InputError(SimserveError):
    """Something the user gave is wrong.

    Args:
        message: What is wrong and what was expected, without the place.
        file: The file it stands in, if any.
        line: 1-based line (or row) in that file.
        column: 1-based column in that line.
    """

    exit_status = 2

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        column: int | None = None,
    ) -> None:
        self.message = message
        self.file = file
        self.line = line
        self.column = column
        super().__init__(str(self))

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        return f"{place}: {self.message}" if place else self.message


class ScenarioError(InputError):
    """A scenario file (or an override of it) is wrong."""


class TraceError(InputError):
    """A trace file or one of its rows is wrong."""


class UnknownNameError(InputError):
    """A name that is not in a catalog or a registry; the message names the nearest valid ones.

    Args:
        kind: What the name should have been ("model", "router", ...).
        name: The name as given.
        valid: All valid names.
        otherwise: Where the valid names are listed, and what else will do, for kinds with very many of them.
    """

    def __init__(
        self, kind: str, name: str, valid: Iterable[str], otherwise: str = "", **place: int | str | None
    ) -> None:
        self.kind = kind
        self.name = name
        self.valid = sorted(valid)
        super().__init__(f"unknown {kind} {name!r}{nearest(name, self.valid, otherwise)}", **place)  # type: ignore[arg-type]


class CapacityError(InputError):
    """A model, a prompt or a configuration that the hardware cannot hold."""


class SimulationError(SimserveError):
    """A run that cannot go on."""


class PolicyError(SimulationError):
    """A policy of the user's raised an error, which is this one's cause."""


class IntegrityError(SimulationError):
    """A bookkeeping invariant does not hold: a bug in a policy or in simserve."""


def nearest(name: str, valid: Iterable[str], otherwise: str = "") -> str:
    """Return `"; did you mean 'x'?"`, or the list of valid names when none is close.

    With `otherwise` up to three close names and it, whether any is close or not, and never the whole list.
    """
    names = sorted(valid)
    close = get_close_matches(name, names, n=3 if otherwise else 1, cutoff=0.6 if otherwise else 0.5)
    if otherwise:
        asked = " or ".join(map(repr, close))
        return f"; did you mean {asked}? ({otherwise})" if close else f"; {otherwise}"
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; valid: {', '.join(names)}" if names else ""
