"""Where the project's data folders are: hardware, models, scenarios, traces.

One locator for the three ways in which simserve is installed: a wheel carries the folders inside the
package (`simserve/data/<kind>`), an editable install and a plain checkout have them beside it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from simserve.errors import InputError

KINDS = ("hardware", "models", "scenarios", "traces")
_PACKAGE = Path(__file__).resolve().parent


@cache
def data_folder(kind: str) -> Path:
    """Return the folder of one kind of data.

    Args:
        kind: One of `KINDS`.

    Raises:
        InputError: If the installation lacks the folder.
    """
    for folder in (_PACKAGE / "data" / kind, _PACKAGE.parent / kind):
        if folder.is_dir():
            return folder
    raise InputError(f"this installation of simserve has no folder {kind!r}; install it again")


def find_file(path: str | Path, beside: Path | None = None, *, or_folder: bool = False) -> Path:
    """Find a file named in a scenario: beside the scenario, in the working directory, in the package's data.

    A package path starts with its kind (`traces/chat.csv.gz`), as it does in a checkout.

    Args:
        path: Absolute, or relative to one of the three places.
        beside: The scenario's file or its folder, if there is one.
        or_folder: A folder will do too.

    Raises:
        InputError: If it is in none of the places; the message names them.
    """
    wanted = Path(path).expanduser()
    if wanted.is_absolute():
        if wanted.is_file() or (or_folder and wanted.is_dir()):
            return wanted
        raise InputError(f"file not found: {wanted}")
    places: list[tuple[str, Path]] = []
    if beside is not None:
        places.append(("beside the scenario", beside if beside.is_dir() else beside.parent))
    places.append(("in the working directory", Path.cwd()))
    kind = wanted.parts[0] if wanted.parts else ""
    if kind in KINDS:
        places.append(("in the package's data", data_folder(kind).parent))
    for _, folder in places:
        found = folder / wanted
        if found.is_file() or (or_folder and found.is_dir()):
            return found
    raise InputError(f"file not found: {path} (sought {', '.join(place for place, _ in places)})")
