"""Who is at work in a sweep's folder: two sweeps at once would run points twice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simserve.errors import InputError

_LOCK = ".lock"


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Hold a sweep's folder; a sweep that is killed lets go.

    Raises:
        InputError: If another sweep holds it.
    """
    with (folder / _LOCK).open("w") as file:
        if not _lock(file.fileno(), shared=False):
            message = "another sweep is at work in it; wait for it, or choose another folder"
            raise InputError(message, file=str(folder))
        yield


def is_sweeping(folder: str | Path) -> bool:
    """Return whether a sweep is at work in a folder; False where the system cannot tell."""
    if os.name == "nt":
        return False
    try:
        # Of what lies there in a lock's place nothing is followed or waited for.
        file = os.open(Path(folder) / _LOCK, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return not _lock(file, shared=True)
    finally:
        os.close(file)


def _lock(file: int, *, shared: bool) -> bool:
    """Lock a file, where the system and its file system can; return False if another holds it."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        return not isinstance(error, BlockingIOError)
    return True
