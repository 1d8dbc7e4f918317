"""Where the runs of a study take place: the options that say so, and the line that says how far it is."""

from __future__ import annotations

import sys
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from simserve.cli.choices import one_of, words
from simserve.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from simserve.study.executor import Executor


class Where(StrEnum):
    """Where the runs of a study take place."""

    LOCAL = "local"
    RAY = "ray"


Runs = Annotated[
    Where,
    typer.Option(
        "--executor",
        metavar=words(Where),
        parser=one_of("--executor", Where),
        help="Where the simulations run.",
    ),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes of this machine; without it one a core.")]
Address = Annotated[
    str | None, typer.Option(help="An existing Ray cluster (--executor ray); without it one of our own.")
]
Prices = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Prices of accelerators: YAML with date, source and usd_per_hour."),
]
Price = Annotated[list[str] | None, typer.Option(metavar="NAME=USD", help="Price of an accelerator an hour.")]


def choose_executor(
    name: str, workers: int | None, address: str | None, *, here: bool = False, most: int | None = None
) -> Executor:
    """Return where to run.

    Args:
        name: "local" or "ray".
        workers: Processes; None: one a core.
        address: Of a Ray cluster.
        here: Whether a single worker may be this process.
        most: Processes of this machine that are worth starting if nobody says how many; None: any number.

    Raises:
        InputError: If the options do not go together.
    """
    if name == "ray":
        from simserve.study.ray_executor import RayExecutor

        if address is not None and workers is not None:
            raise InputError("--workers is for processes of this machine; a cluster at --address has its own")
        return RayExecutor(address, workers)
    if address is not None:
        raise InputError("--address is of a Ray cluster; it goes with --executor ray")
    from simserve.study.executor import InProcess, LocalExecutor, count_cores

    chosen = workers or min(count_cores(), most or count_cores())
    return InProcess() if here and chosen == 1 else LocalExecutor(chosen)


class CountLine:
    """How many simulations have ended, on standard error, where that is a terminal.

    Args:
        what: What is counted.
        quiet: Draw nothing.
    """

    def __init__(self, what: str, *, quiet: bool) -> None:
        self._shown = sys.stderr.isatty() and not quiet
        self._what = what
        self._started_s = time.monotonic()

    def __call__(self, ended: int, total: int | None = None) -> None:
        """Draw it.

        Args:
            ended: How many have ended.
            total: Of how many; None: nobody knows.
        """
        if not self._shown:
            return
        passed_s = time.monotonic() - self._started_s
        text = f"{ended:,} {self._what}, {passed_s:,.0f} s"
        if total is not None:
            left_s = passed_s * (total - ended) / max(ended, 1)
            text = f"{ended:,} of {total:,} {self._what}, about {left_s:,.0f} s left"
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()

    def wipe(self) -> None:
        """Wipe the line, so that something else can be written."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def warn_if_unsure(doubts: Iterable[str]) -> None:
    """Say on standard error that what was found rests on too few requests.

    Args:
        doubts: Why, in words, or "" each; the first is told.
    """
    told = next(filter(None, doubts), "")
    if told:
        print(
            f"simserve: warning: {told} (a longer trace, or workload.requests of generated ones)",
            file=sys.stderr,
        )
