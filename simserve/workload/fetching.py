"""Downloads of public traces into a cache, checked against their checksums."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from simserve.errors import InputError, SimserveError, UnknownNameError
from simserve.workload.public_traces import PUBLIC_TRACES, PublicTrace

_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 30.0


class FetchError(SimserveError):
    """A download that failed; nothing is left in the cache."""


def cache_folder() -> Path:
    """Return the folder of fetched traces: `$XDG_CACHE_HOME/simserve/traces`, by default below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # A relative XDG path is invalid and is to be ignored (XDG Base Directory Specification 0.8).
    root = Path(base) if base.startswith("/") else Path.home() / ".cache"
    return root / "simserve" / "traces"


def find_public_trace(name: str) -> PublicTrace:
    """Return a public trace by its name.

    Raises:
        UnknownNameError: If there is none.
    """
    if name not in PUBLIC_TRACES:
        raise UnknownNameError("public trace", name, PUBLIC_TRACES)
    return PUBLIC_TRACES[name]


def fetch_trace(name: str, folder: Path | None = None, mirror: str | None = None) -> Path:
    """Download a public trace, or find it in the cache, and return its path.

    A file is checked against its checksum before it gets its name; one that is in the cache is checked again.

    Args:
        name: A key of `PUBLIC_TRACES`.
        folder: The cache; None: `cache_folder()`.
        mirror: `http(s)://` address that serves `OWNER/REPOSITORY/COMMIT/PATH` in place of GitHub.

    Raises:
        UnknownNameError: If there is no such trace.
        InputError: If the mirror is no such address.
        FetchError: If the download fails or has another checksum.
    """
    trace = find_public_trace(name)
    if mirror is not None and not mirror.startswith(("http://", "https://")):
        raise InputError(f"the mirror {mirror!r} is no http:// or https:// address")
    folder = (cache_folder() if folder is None else folder) / name
    path = folder / trace.file_name
    if path.is_file() and _sha256(path) == trace.sha256:
        return path
    handle = -1
    temporary = ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{trace.file_name}.")
        found = _download(trace.url(mirror), handle)
        if found != trace.sha256:
            raise FetchError(
                f"{name}: the file has SHA-256 {found}, expected {trace.sha256}; it was not kept"
            )
        os.replace(temporary, path)
    except OSError as error:
        raise FetchError(_explain(name, trace.url(mirror), error)) from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
    return path


def _download(url: str, handle: int) -> str:
    """Copy a file from the network and return its SHA-256; closes the handle."""
    # Slow to import, and only a download needs them.
    from http.client import HTTPException
    from urllib.request import Request, urlopen

    digest = hashlib.sha256()
    with os.fdopen(handle, "wb") as file:
        try:
            request = Request(url, headers={"User-Agent": "simserve"})
            with urlopen(request, timeout=_TIMEOUT_S) as response:
                while chunk := response.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    file.write(chunk)
        except HTTPException as error:
            raise OSError(f"the connection broke: {error!r}") from error
    return digest.hexdigest()


def _explain(name: str, url: str, error: OSError) -> str:
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    status = getattr(error, "code", None)
    if status is not None:
        return f"{name}: the server answered {status} ({reason}) for {url}"
    return (
        f"{name}: cannot download {url}: {reason}. Without a network, download the file elsewhere and "
        "give its path as the trace."
    )


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
